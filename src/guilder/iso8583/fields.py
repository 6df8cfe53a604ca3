"""The field table: which data elements the dialect has, and what each may hold. Data, not code (docs/iso8583.md)."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from msgspec import Struct


class Content(Enum):
    """The characters that a field may hold."""

    DIGITS = "n"
    ALPHANUMERIC = "an"
    PRINTABLE = "ans"


class Field(Struct, frozen=True):
    """One data element.

    `length` is exact for a fixed field and the most for a variable one. `prefix` is the number of digits that the
    length is written with before the value: 0 for a fixed field, 2 for LLVAR, 3 for LLLVAR.
    """

    number: int
    name: str
    content: Content
    length: int
    prefix: int = 0


def _table(*fields: Field) -> Mapping[int, Field]:
    return {field.number: field for field in fields}


FIELDS: Final = _table(
    Field(2, "card number", Content.DIGITS, 19, prefix=2),
    Field(3, "processing code", Content.DIGITS, 6),
    Field(4, "amount", Content.DIGITS, 12),
    Field(7, "transmission date and time", Content.DIGITS, 10),
    Field(11, "system trace audit number", Content.DIGITS, 6),
    Field(12, "local time", Content.DIGITS, 6),
    Field(14, "expiry", Content.DIGITS, 4),
    Field(18, "merchant category", Content.DIGITS, 4),
    Field(22, "entry mode", Content.DIGITS, 3),
    Field(25, "condition code", Content.DIGITS, 2),
    Field(32, "acquirer", Content.DIGITS, 11, prefix=2),
    Field(37, "reference", Content.ALPHANUMERIC, 12),
    Field(38, "authorization code", Content.ALPHANUMERIC, 6),
    Field(39, "response code", Content.ALPHANUMERIC, 2),
    Field(41, "terminal", Content.PRINTABLE, 8),
    Field(42, "card acceptor id", Content.PRINTABLE, 15),
    Field(43, "card acceptor name", Content.PRINTABLE, 40),
    Field(44, "additional response data", Content.PRINTABLE, 25, prefix=2),
    Field(48, "additional data", Content.PRINTABLE, 999, prefix=3),
    Field(49, "currency", Content.DIGITS, 3),
    Field(70, "network management code", Content.DIGITS, 3),
    Field(90, "original data", Content.DIGITS, 42),
    Field(95, "replacement amounts", Content.ALPHANUMERIC, 42),
)

# The last field of the primary bitmap; one above it makes the secondary bitmap appear.
PRIMARY_FIELDS: Final = 64
# A message type indicator and the shortest bitmap: nothing shorter can be a message.
BODY_MIN: Final = 20
# The longest message that the table allows: every field at its full length, rounded up. A longer one is not ours, and
# refusing it early keeps a hostile peer from making us collect 64 kB for each connection.
BODY_MAX: Final = 2048
