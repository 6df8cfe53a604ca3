"""`guilder brand`: how a merchant's payment page looks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from msgspec import UNSET, UnsetType

from guilder.cli.options import Account, Data, Json, load
from guilder.cli.system import with_merchants
from guilder.core.errors import GuilderError

if TYPE_CHECKING:
    from guilder.merchants import Brand, Merchants

Value = TypeVar("Value")


def brand(
    account: Account = None,
    name: Annotated[str | None, typer.Option(help="The name on the page, in place of the merchant's.")] = None,
    color: Annotated[str | None, typer.Option(help="The colour of buttons and marks, as #rrggbb; shown so that it can be read.")] = None,
    logo: Annotated[Path | None, typer.Option(help="A PNG, JPEG or WebP picture of at most 30 kB, best a square.")] = None,
    *,
    no_name: Annotated[bool, typer.Option("--no-name", help="The merchant's own name again.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="The usual colour again.")] = False,
    no_logo: Annotated[bool, typer.Option("--no-logo", help="No logo any more.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show how a merchant's payment page looks, changed first by what is named; what is not named stays."""
    from guilder.merchants import BrandChange

    picture = None if logo is None else _read(logo)
    change = BrandChange(
        name=_wanted("name", name, take_away=no_name), color=_wanted("color", color, take_away=no_color),
        logo=_wanted("logo", picture, take_away=no_logo),
    )  # fmt: skip

    async def work(merchants: "Merchants", id_: str) -> "Brand":
        if change != BrandChange():
            await merchants.set_brand(id_, change)
        return await merchants.brand(id_)

    _show(with_merchants(load(data_dir=data), account, work), as_json=as_json)


def _wanted(option: str, value: Value | None, *, take_away: bool) -> Value | UnsetType | None:
    """What an option and the one that takes it away say together: UNSET when neither is there."""
    if take_away and value is not None:
        raise GuilderError(f"--{option} and --no-{option} contradict each other: give one of them")
    return None if take_away else UNSET if value is None else value


def _read(logo: Path) -> bytes:
    try:
        return logo.read_bytes()
    except OSError as error:
        raise GuilderError(f"{logo} cannot be read: {error.strerror}") from error


def _show(found: "Brand", *, as_json: bool) -> None:
    from guilder.cli.output import write_json, write_lines

    if as_json:
        size = None if found.logo is None else len(found.logo)
        write_json({"name": found.name, "color": found.color, "logo_type": found.logo_type, "logo_bytes": size})
        return
    logo = "none" if found.logo is None else f"{found.logo_type}, {len(found.logo)} bytes"
    write_lines([("name", found.name), ("color", found.color or "the usual"), ("logo", logo)])
