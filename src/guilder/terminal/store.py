"""The SQL of readers and locations. No other file touches these two tables."""

from typing import Final

import msgspec

from guilder.core.clock import SECOND
from guilder.db import Connection, Database
from guilder.db.pages import Listing
from guilder.shapes.facts import LocationFacts, ReaderFacts

LOCATIONS: Final = Listing(table="terminal_location", columns="facts", kind="terminal location")
READERS: Final = Listing(table="terminal_reader", columns="facts", kind="terminal reader")

_INSERT_LOCATION: Final = "INSERT INTO terminal_location (id, account, livemode, created_at, facts) VALUES ($1, $2, $3, $4, $5)"
_INSERT_READER: Final = """
INSERT INTO terminal_reader (id, account, livemode, created_at, facts, location) VALUES ($1, $2, $3, $4, $5, $6)
"""
_UPDATE_LOCATION: Final = "UPDATE terminal_location SET facts = $2 WHERE id = $1"
_UPDATE_READER: Final = "UPDATE terminal_reader SET facts = $2, location = $3 WHERE id = $1"
_DELETE_LOCATION: Final = "DELETE FROM terminal_location WHERE id = $1"
_DELETE_READER: Final = "DELETE FROM terminal_reader WHERE id = $1"
_LOCATION: Final = "SELECT facts FROM terminal_location WHERE id = $1 AND account = $2 AND livemode = $3"
_READER: Final = "SELECT facts FROM terminal_reader WHERE id = $1 AND account = $2 AND livemode = $3"
_READERS_AT: Final = "SELECT count(*) FROM terminal_reader WHERE location = $1"

_pack: Final = msgspec.msgpack.Encoder().encode
location_from: Final = msgspec.msgpack.Decoder(LocationFacts).decode
reader_from: Final = msgspec.msgpack.Decoder(ReaderFacts).decode


async def find_location(
    through: Connection | Database, account: str, id_: str, *, livemode: bool, lock: bool = False,
) -> LocationFacts | None:  # fmt: skip
    """A location; with `lock` it stays as it is until the transaction ends."""
    row = await through.fetchrow(_LOCATION + (" FOR UPDATE" if lock else ""), id_, account, livemode)
    return None if row is None else location_from(row["facts"])


async def find_reader(
    through: Connection | Database, account: str, id_: str, *, livemode: bool, lock: bool = False,
) -> ReaderFacts | None:  # fmt: skip
    """A reader; with `lock` it stays as it is until the transaction ends."""
    row = await through.fetchrow(_READER + (" FOR UPDATE" if lock else ""), id_, account, livemode)
    return None if row is None else reader_from(row["facts"])


async def insert_location(connection: Connection, account: str, facts: LocationFacts) -> None:
    """Store a new location."""
    await connection.execute(_INSERT_LOCATION, facts.id, account, facts.livemode, facts.created * SECOND, _pack(facts))


async def insert_reader(connection: Connection, account: str, facts: ReaderFacts) -> None:
    """Store a new reader."""
    await connection.execute(_INSERT_READER, facts.id, account, facts.livemode, facts.created * SECOND, _pack(facts), facts.location)


async def update_location(connection: Connection, facts: LocationFacts) -> None:
    """Store what has changed of a locked location."""
    await connection.execute(_UPDATE_LOCATION, facts.id, _pack(facts))


async def update_reader(connection: Connection, facts: ReaderFacts) -> None:
    """Store what has changed of a locked reader."""
    await connection.execute(_UPDATE_READER, facts.id, _pack(facts), facts.location)


async def delete_location(connection: Connection, id_: str) -> bool:
    """Remove a locked location; False while readers stand there."""
    if await connection.fetchval(_READERS_AT, id_):
        return False
    await connection.execute(_DELETE_LOCATION, id_)
    return True


async def delete_reader(connection: Connection, id_: str) -> None:
    """Remove a locked reader."""
    await connection.execute(_DELETE_READER, id_)
