"""`guilder revenue`: what the operator earned in fees, from the ledger."""

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.config import Settings
    from guilder.ledger.model import RevenueLine

DAYS: Final = 30
DAYS_MAX: Final = 3_660


def revenue(
    days: Annotated[int, typer.Option("--days", min=1, max=DAYS_MAX, help="How many days, today included.")] = DAYS,
    live: Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")] = False,
    account: Annotated[str | None, typer.Option("--account", metavar="ID", help="One merchant's only.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show the fees earned, by day, currency and merchant."""
    from guilder.cli.output import write_json, write_table
    from guilder.cli.system import with_database
    from guilder.cli.times import date
    from guilder.core.money import format_minor
    from guilder.role import run_in_loop

    with with_database(load(data_dir=data)) as settings:
        lines = run_in_loop(_lines(settings, livemode=live, days=days, account=account))
    totals: dict[str, int] = defaultdict(int)
    for line in lines:
        totals[line.currency] += line.amount
    if as_json:
        names = ("account", "currency", "amount")
        shown = [{"day": date(line.day), **{name: getattr(line, name) for name in names}} for line in lines]
        sums = [{"currency": currency, "amount": totals[currency]} for currency in sorted(totals)]
        write_json({"livemode": live, "lines": shown, "totals": sums})
        return
    if not lines:
        typer.echo(f"no fees in the last {days} days")
        return
    rows = [(date(line.day), line.account, line.currency.upper(), format_minor(line.amount, line.currency)) for line in lines]
    rows += [("total", "", each.upper(), format_minor(totals[each], each)) for each in sorted(totals)]
    write_table(f"Fees, {'live' if live else 'test'} mode", ["day", "merchant", "currency", "amount"], rows)


async def _lines(settings: "Settings", *, livemode: bool, days: int, account: str | None) -> "list[RevenueLine]":
    from guilder.core.clock import SystemClock, day_of
    from guilder.db import Database
    from guilder.ledger import store
    from guilder.rooms import address

    today = day_of(SystemClock(settings.clock_file).now())
    db = await Database.connect(address(settings), role="guilder_reader", max_size=1, name="revenue")
    try:
        return await store.revenue(db, livemode=livemode, since_day=today - days + 1, until_day=today, merchant=account)
    finally:
        await db.close()
