"""How a test ends a database of its own."""

import asyncpg


async def drop_database(admin: asyncpg.Connection, name: str) -> None:
    """Drop a database with whoever is in it; again while an autovacuum worker is: that one is the server's and ends by itself."""
    for _ in range(100):
        try:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectInUseError):
            await admin.execute("SELECT pg_sleep(0.05)")
        else:
            return
    raise TimeoutError(f"{name} could not be dropped")
