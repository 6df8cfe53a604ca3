"""Where card data could have been left behind: every file under DATA, the database's and its WAL among them, and a dump of all tables.

The bank world's folder is left out: the issuer knows its own cards. The dump is read row by row, because a file may hold a value
compressed; bytes are looked at as they are, as text may hide them.
"""

import asyncio
import base64
import json
import re
from collections.abc import Iterator

import asyncpg
from payments_system import Shop


class Canary:
    """A card that a test has typed: finds its number, and its CVC as a value of its own."""

    def __init__(self, number: str, cvc: str) -> None:
        digits = number.encode()
        spaced = [mark.join(digits[at : at + 4] for at in range(0, len(digits), 4)) for mark in (b" ", b"-", b"+", b"%20", b"\xa0")]
        packed = [bytes.fromhex(number), digits.hex().encode(), base64.b64encode(digits)]
        code = re.escape(cvc.encode())
        # Alone, a few digits are found anywhere: as text of JSON, and behind its name.
        named = [rb'"%s"' % code, rb"(?i:cvc|cvv|csc|security.code)\W{0,12}%s(?!\d)" % code]
        # As text of msgpack: four bytes, which a whole database has by chance and a row has not.
        self._packed = bytes([0xA0 + len(cvc)]) + cvc.encode()
        self._pattern = re.compile(b"|".join([*map(re.escape, [digits, *spaced, *packed]), *named]))

    def found_in(self, content: bytes) -> bool:
        """Whether any of it is there."""
        return self._pattern.search(content) is not None

    def traces(self, shop: Shop) -> list[str]:
        """The places under DATA and in the tables that hold it."""
        tables = [table for table, row in dump(shop) if self.found_in(row) or self._packed in row]
        return tables + [path for path, content in _files(shop) if self.found_in(content)]


def _files(shop: Shop) -> Iterator[tuple[str, bytes]]:
    for path in shop.data.rglob("*"):
        if path.is_file() and not path.is_relative_to(shop.data / "network"):
            yield str(path.relative_to(shop.data)), path.read_bytes()


def places(shop: Shop, text: bytes) -> set[str]:
    """The tables, and the names along the paths of the files, that hold this text: to show that the search sees what is there."""
    tables = {table for table, row in dump(shop) if text in row}
    return tables | {part for path, content in _files(shop) if text in content for part in path.split("/")}


def dump(shop: Shop) -> list[tuple[str, bytes]]:
    """Every row of every table, with the table's name, as the superuser reads them; what was in memory is in the files then, too."""
    password = json.loads((shop.data / "keys" / "database.json").read_text())["postgres"]

    async def read() -> list[tuple[str, bytes]]:
        connection = await asyncpg.connect(shop.running()["database_url"], user="postgres", password=password)
        try:
            await connection.execute("CHECKPOINT")
            tables = await connection.fetch(_TABLES)
            assert tables
            return [
                (table["name"], b"\n".join(_bytes(value) for value in row.values()))
                for table in tables
                for row in await connection.fetch(f"SELECT * FROM {table['name']}")
            ]
        finally:
            await connection.close()

    return asyncio.run(read())


def _bytes(value: object) -> bytes:
    if isinstance(value, list):
        return b"\n".join(map(_bytes, value))
    return value if isinstance(value, bytes) else str(value).encode()


_TABLES = """
SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY name
"""
