"""A pool of connections whose sessions have our limits and whose errors are already translated."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeVar

import asyncpg

from guilder.core.errors import ResultUnknown
from guilder.db.arrays import ask_concrete_types
from guilder.db.connection import Connection, Record
from guilder.db.errors import translate, translate_connect
from guilder.db.sessions import Sessions

Items = TypeVar("Items")
Results = TypeVar("Results")

# A server on this machine or the next one answers in milliseconds; one that is starting refuses at once.
CONNECT_TIMEOUT_SECONDS: Final = 4.0

# Longest single statement. The largest flush takes well under a second; this ends what waits for a lock that somebody
# forgot. PostgreSQL switches this timer off before it commits, so no COMMIT is ever cut short by it; for the same
# reason no client-side timeout is used anywhere (it would cancel a COMMIT).
STATEMENT_TIMEOUT_MS: Final = 30_000

# A client that stops between two statements of a transaction loses its locks after this long (DESIGN section 4).
IDLE_IN_TRANSACTION_MS: Final = 2_000

# Statements whose plans a connection keeps; more than any process has.
STATEMENT_CACHE: Final = 512

SESSION: Final[dict[str, str]] = {
    # A commit returns when this server's disk has it, and the standby's where one is synchronous, whatever the server's own
    # setting is: what is acknowledged survives, and what is claimed is known there before a byte of it is sent.
    "synchronous_commit": "on",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
    # A dead peer is noticed within 10 s: idle 4 s, then three probes 2 s apart.
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # A statement that waits for a lock ends within a second of its client's death.
    "client_connection_check_interval": "1000",
    "jit": "off",
    "timezone": "UTC",
}

# Plans of the hot statements must not depend on statistics that a fresh database does not have (performance.md, trap 1).
HOT_SESSION: Final[dict[str, str]] = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}

# What makes a statement that only reads commit behind all that it has read. Empty as that commit is, it waits for the standby like any
# other; without one there is nothing to wait for. Needs no right, touches no table.
KEPT: Final = "CASE WHEN current_setting('synchronous_standby_names') <> '' THEN pg_logical_emit_message(true, 'guilder', '') END"

# The source file that PostgreSQL names in its warning that a commit is local only; its text depends on the language.
REPLICATION_SOURCE: Final = "syncrep.c"


class Database:
    """A few connections for one process and one database role.

    Raises from every call: Unavailable when nothing was stored, ResultUnknown when that is not known, Again when the
    transaction can be run once more; asyncpg's own error for anything else (db.errors).
    """

    def __init__(self, dsn: str, settings: Mapping[str, str], *, role: str, max_size: int, name: str) -> None:
        self._settings = dict(settings)
        self._sessions = Sessions(self._connect, max_size)
        self._warned: set[int] = set()
        self.dsn = dsn
        self.role = role
        self.name = name

    @classmethod
    async def connect(cls, dsn: str, *, role: str, max_size: int, hot: bool = False, name: str) -> Self:
        """Open a pool; one connection is made at once, so that a wrong address is noticed here.

        Args:
            dsn: as libpq writes it.
            role: the database role that every session takes on (`guilder_app`, `guilder_vault`, `guilder_reader`).
            max_size: connections at most; all of `guilder up` may have 16.
            hot: plans that do not depend on statistics, for the processes that run the hot statements.
            name: shown by pg_stat_activity.
        """
        ask_concrete_types()
        database = cls(dsn, session_settings(role=role, hot=hot, name=name), role=role, max_size=max_size, name=name)
        database._release(await database._acquire())
        return database

    @classmethod
    def later(cls, dsn: str, *, role: str, max_size: int, name: str) -> Self:
        """As `connect`, for a server that need not be there yet: connections are made when they are needed."""
        ask_concrete_types()
        return cls(dsn, session_settings(role=role, name=name), role=role, max_size=max_size, name=name)

    async def fetch(self, sql: str, *arguments: object) -> list[Record]:
        """Run one statement in autocommit and return its rows."""
        return await self._run("fetch", sql, arguments)  # type: ignore[no-any-return]

    async def fetchrow(self, sql: str, *arguments: object) -> Record | None:
        """Run one statement in autocommit and return its first row, None when there is none."""
        return await self._run("fetchrow", sql, arguments)  # type: ignore[no-any-return]

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """Run one statement in autocommit and return the first column of its first row, None when there is none."""
        return await self._run("fetchval", sql, arguments)

    async def execute(self, sql: str, *arguments: object) -> str:
        """Run one statement in autocommit (several without arguments); returns the server's word, such as `UPDATE 1`."""
        return await self._run("execute", sql, arguments)  # type: ignore[no-any-return]

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of arguments, all in one transaction."""
        await self._run("executemany", sql, (rows,))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, READ COMMITTED: committed when the block ends, rolled back when it raises.

        A lost connection inside the block is Unavailable (nothing was committed), during COMMIT ResultUnknown. A
        cancelled caller never cancels the COMMIT. No call to anyone else belongs inside: the session is ended when it
        idles for 2 s.
        """
        connection = await self._acquire()
        try:
            transaction = connection.transaction()
            try:
                await transaction.start()
                yield connection
            except Exception as error:
                await _roll_back(connection, transaction)
                if (translated := translate(error, committing=False)) is error:
                    raise
                raise translated from error
            await self._commit(connection, transaction)
        except BaseException as error:
            _drop_if_cancelled(connection, error)
            raise
        finally:
            self._release(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit, for session-level work; whoever uses it leaves no session state behind."""
        connection = await self._acquire()
        try:
            with _Translated(committing=True):
                yield connection
        except BaseException as error:
            _drop_if_cancelled(connection, error)
            raise
        finally:
            self._release(connection)

    async def kept(self) -> None:
        """Return when everything that was read before is where commits have to be: on the synchronous standby too, if there is one.

        A commit whose wait for it was cut short is seen by every reader, and is lost with this server. So what a reader finds
        instead of an answer that was lost is acknowledged only after this. Waits as long as commits do.
        """
        await self.execute(f"SELECT {KEPT}")

    def keeping(self, resolve: Callable[[Items], Awaitable[Results]]) -> Callable[[Items], Awaitable[Results]]:
        """A coalescer's `resolve` that answers only with what is kept (`kept`)."""

        async def resolved(items: Items) -> Results:
            results = await resolve(items)
            await self.kept()
            return results

        return resolved

    @property
    def size(self) -> int:
        """Connections open now."""
        return self._sessions.size

    async def close(self) -> None:
        """Wait a little for what is running, then close every connection."""
        await self._sessions.close()

    async def _run(self, verb: str, sql: str, arguments: Sequence[object]) -> Any:
        connection = await self._acquire()
        try:
            with _Translated(committing=True):
                result = await getattr(connection, verb)(sql, *arguments)
            self._refuse_local_commit(connection)
            return result
        except BaseException as error:
            _drop_if_cancelled(connection, error)
            raise
        finally:
            self._release(connection)

    async def _commit(self, connection: Connection, transaction: Any) -> None:
        # The driver would answer a cancellation by cancelling the COMMIT, the classic way to make its result unknown.
        commit = asyncio.ensure_future(transaction.commit())
        try:
            with _Translated(committing=True):
                await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait({commit})
            if not commit.cancelled():
                # Looked at, so that the loop does not report it as forgotten: the caller has gone.
                commit.exception()
            raise
        self._refuse_local_commit(connection)

    async def _connect(self) -> Any:
        connection = await asyncpg.connect(
            self.dsn,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings=self._settings,
            statement_cache_size=STATEMENT_CACHE,
            # Plans are kept for as long as the connection lives.
            max_cached_statement_lifetime=0,
        )
        connection.add_log_listener(self._noticed)
        return connection

    async def _acquire(self) -> Any:
        try:
            return await self._sessions.take()
        except Exception as error:
            if (translated := translate_connect(error)) is error:
                raise
            raise translated from error

    def _release(self, connection: Any) -> None:
        self._warned.discard(id(connection))
        self._sessions.give(connection)

    def _noticed(self, connection: Connection, notice: asyncpg.PostgresLogMessage) -> None:
        if getattr(notice, "server_source_filename", None) == REPLICATION_SOURCE:
            self._warned.add(id(connection))

    def _refuse_local_commit(self, connection: Connection) -> None:
        """A commit whose wait for the standby was cut short is reported as success with a warning: it is unknown."""
        if id(connection) in self._warned:
            raise ResultUnknown("committed here, but perhaps not on the standby")


def session_settings(*, role: str | None, hot: bool = False, name: str) -> dict[str, str]:
    """The settings that a session starts with; they hold without a statement of their own."""
    return {
        **SESSION,
        **(HOT_SESSION if hot else {}),
        **({"role": role} if role else {}),
        "application_name": f"guilder {name}",
    }


def _drop_if_cancelled(connection: Any, error: BaseException) -> None:
    """Close the connection of a caller that went away in the middle: a statement may still be running on it.

    What that statement does to its end, or its transaction's roll-back, is the server's.
    """
    if not isinstance(error, Exception):
        connection.terminate()


async def _roll_back(connection: Any, transaction: Any) -> None:
    try:
        if not connection.is_closed():
            await transaction.rollback()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # The server rolls back whatever a dead session had open.
        return


class _Translated:
    """Raises what an error means in its place (db.errors), with the original as its cause."""

    __slots__ = ("_committing",)

    def __init__(self, *, committing: bool) -> None:
        self._committing = committing

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and (translated := translate(error, committing=self._committing)) is not error:
            raise translated from error
