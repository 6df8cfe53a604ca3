"""How a merchant's payment page looks: a name, one colour, a logo. What may be set, pure, and its SQL."""

import re
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from guilder.core.errors import Refusal
from guilder.db import Database

# Each buyer loads it, and the whole page stays below 60 kB.
LOGO_BYTES_MAX: Final = 30_000
NAME_CHARACTERS_MAX: Final = 80

_COLOR: Final = re.compile(r"#[0-9a-f]{6}")
# What a browser shows and cannot run; SVG can.
_KINDS: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))

_SET: Final = """
INSERT INTO merchant_brand (account, name, color, logo, logo_type) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (account) DO UPDATE SET
    name = CASE WHEN $6 THEN excluded.name ELSE merchant_brand.name END,
    color = CASE WHEN $7 THEN excluded.color ELSE merchant_brand.color END,
    logo = CASE WHEN $8 THEN excluded.logo ELSE merchant_brand.logo END,
    logo_type = CASE WHEN $8 THEN excluded.logo_type ELSE merchant_brand.logo_type END
"""
_SELECT: Final = """
SELECT m.name AS merchant, b.name, b.color, b.logo, b.logo_type FROM merchant m
LEFT JOIN merchant_brand b ON b.account = m.id WHERE m.id = $1
"""


class Brand(Struct, frozen=True, kw_only=True):
    """A page's looks. `color` as `#rrggbb`, None for ours; `logo` with its media type."""

    name: str
    color: str | None = None
    logo: bytes | None = None
    logo_type: str | None = None


def check_name(name: str) -> str:
    """The name. Raises Refusal when it cannot stand on a page."""
    if not 0 < len(name.strip()) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise Refusal(f"The name on the page has 1 to {NAME_CHARACTERS_MAX} characters.", param="name")
    return name.strip()


def check_color(color: str) -> str:
    """The colour in lower case. Raises Refusal for anything but `#rrggbb`."""
    if not _COLOR.fullmatch(color.lower()):
        raise Refusal("The colour is written as #rrggbb, such as #0b5fff.", param="color")
    return color.lower()


def logo_type(logo: bytes) -> str:
    """The media type of a logo, by its first bytes. Raises Refusal for what is too large or no picture."""
    if len(logo) > LOGO_BYTES_MAX:
        raise Refusal(f"The logo may have at most {LOGO_BYTES_MAX} bytes: every buyer loads it.", param="logo")
    for head, kind in _KINDS:
        if logo.startswith(head):
            return kind
    if logo[:4] == b"RIFF" and logo[8:12] == b"WEBP":
        return "image/webp"
    raise Refusal("The logo must be a PNG, JPEG or WebP picture.", param="logo")


async def select_brand(db: Database, account: str) -> Brand | None:
    """A merchant's looks, None when there is no such merchant."""
    row = await db.fetchrow(_SELECT, account)
    if row is None:
        return None
    return Brand(name=row["name"] or row["merchant"], color=row["color"], logo=row["logo"], logo_type=row["logo_type"])


class BrandChange(Struct, frozen=True, kw_only=True):
    """What is to change of a merchant's looks: None is the usual look, UNSET leaves it as it is."""

    name: str | UnsetType | None = UNSET
    color: str | UnsetType | None = UNSET
    logo: bytes | UnsetType | None = UNSET


async def set_brand(db: Database, account: str, change: BrandChange) -> None:
    """Change a merchant's looks, in one statement. Raises Refusal for what cannot be."""
    name = check_name(change.name) if isinstance(change.name, str) else None
    color = check_color(change.color) if isinstance(change.color, str) else None
    logo = change.logo if isinstance(change.logo, bytes) else None
    kind = None if logo is None else logo_type(logo)
    named = (one is not UNSET for one in (change.name, change.color, change.logo))
    await db.execute(_SET, account, name, color, logo, kind, *named)
