"""What the other rooms know of the driver: the part of asyncpg's connection and record that we use, with types."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Record(Protocol):
    """One row: `row["name"]`, `row[0]`, iteration over values, `dict(row.items())`."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def get(self, key: str, default: Any = None, /) -> Any:
        """The column's value, the default when there is no such column."""
        ...

    def keys(self) -> Iterator[str]:
        """The columns' names."""
        ...

    def values(self) -> Iterator[Any]:
        """The values, in the order of the columns."""
        ...

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and values."""
        ...


class Connection(Protocol):
    """A connection with an open transaction (Database.transaction) or in autocommit (Database.connection)."""

    async def fetch(self, query: str, *args: object) -> list[Record]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """The first row, None when there is none."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first column of the first row, None when there is none."""
        ...

    async def execute(self, query: str, *args: object) -> str:
        """The server's word, such as `UPDATE 1`; several statements when there are no arguments."""
        ...

    async def executemany(self, command: str, args: Iterable[Sequence[object]]) -> None:
        """One statement for each row of arguments."""
        ...

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[object]],
        columns: Sequence[str] | None = None,
    ) -> str:
        """Many rows at once, by COPY."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """A savepoint, inside a transaction."""
        ...

    def get_server_pid(self) -> int:
        """The backend's process id."""
        ...
