"""`guilder brand`: how a merchant's payment page looks."""

from pathlib import Path
from typing import Annotated

import typer

from guilder.cli.options import Account, Data, load
from guilder.cli.system import with_merchants
from guilder.core.errors import GuilderError


def brand(
    account: Account = None,
    name: Annotated[str | None, typer.Option(help="The name on the page, in place of the merchant's.")] = None,
    color: Annotated[str | None, typer.Option(help="The colour of buttons and marks, as #rrggbb; shown so that it can be read.")] = None,
    logo: Annotated[Path | None, typer.Option(help="A PNG, JPEG or WebP picture of at most 30 kB, best a square.")] = None,
    data: Data = None,
) -> None:
    """Set how a merchant's payment page looks; what is not named is the usual look."""
    try:
        picture = None if logo is None else logo.read_bytes()
    except OSError as error:
        raise GuilderError(f"{logo} cannot be read: {error.strerror}") from error
    with_merchants(
        load(data_dir=data), account, lambda merchants, id_: merchants.set_brand(id_, name=name, color=color, logo=picture),
    )  # fmt: skip
    typer.echo("The payment page has its new look" if name or color or picture else "The payment page has the usual look")
