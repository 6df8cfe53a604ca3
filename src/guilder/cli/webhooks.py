"""`guilder webhooks`: what was sent to receivers, what they answered, and sending it again."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from guilder.cli.options import Account, Data, Json, load

if TYPE_CHECKING:
    from guilder.webhooks import Deliveries, Delivery

app = typer.Typer(help="List, show and repeat webhook deliveries.", no_args_is_help=True, rich_markup_mode=None)
Id = Annotated[str, typer.Argument(metavar="ID", help="The delivery, from `guilder webhooks list`.")]
Live = Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")]
Result = TypeVar("Result")

SHOWN: Final = 20
SHOWN_MAX: Final = 100
STATES: Final = ("pending", "delivered", "exhausted", "canceled")


@app.command("list")
def list_deliveries(
    endpoint: Annotated[str | None, typer.Option("--endpoint", metavar="ID", help="Only of this endpoint.")] = None,
    event: Annotated[str | None, typer.Option("--event", metavar="ID", help="Only of this event.")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help=f"Only in this state: {', '.join(STATES)}.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=SHOWN_MAX, help="How many.")] = SHOWN,
    live: Live = False,
    *,
    account: Account = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List deliveries, newest first."""
    from guilder.api.webhook_deliveries import delivery_json
    from guilder.cli.output import fail, write_json, write_table
    from guilder.cli.times import instant
    from guilder.db.pages import Page

    if state is not None and state not in STATES:
        fail(f"there is no state {state}; there are {', '.join(STATES)}", as_json=as_json)

    async def read(deliveries: "Deliveries", merchant: str) -> "list[Delivery]":
        page = Page(limit=count)
        return (await deliveries.list(merchant, page, livemode=live, endpoint=endpoint, event=event, state=state))[0]

    found = _with_deliveries(data, account, read)
    if as_json:
        write_json({"webhook_deliveries": [delivery_json(one) for one in found]})
    elif not found:
        typer.echo("there are no such deliveries")
    else:
        rows = [
            (one.id, instant(one.created_at), one.type, one.endpoint, one.number, one.state, one.tries, one.due_at and instant(one.due_at))
            for one in found
        ]
        write_table("Webhook deliveries", ["id", "since", "type", "endpoint", "sequence", "state", "tries", "next try"], rows)


@app.command()
def show(id_: Id, live: Live = False, *, account: Account = None, data: Data = None, as_json: Json = False) -> None:
    """Show a delivery and all its tries. What was sent is the event: `guilder events tail --json` or the API show it."""
    _show(_with_deliveries(data, account, lambda deliveries, merchant: deliveries.retrieve(merchant, id_, livemode=live)), as_json=as_json)


@app.command()
def retry(id_: Id, live: Live = False, *, account: Account = None, data: Data = None, as_json: Json = False) -> None:
    """Send a delivery again, at once, whatever became of it so far."""
    _show(_with_deliveries(data, account, lambda deliveries, merchant: deliveries.retry(merchant, id_, livemode=live)), as_json=as_json)


def _show(found: "Delivery", *, as_json: bool) -> None:
    from guilder.api.webhook_deliveries import attempt_json, delivery_json
    from guilder.cli.output import write_json, write_lines, write_table
    from guilder.cli.times import instant

    if as_json:
        write_json(delivery_json(found) | {"attempts": [attempt_json(one) for one in found.attempts]})
        return
    write_lines(
        [
            ("id", found.id),
            ("state", found.state),
            ("event", f"{found.event} {found.type}"),
            ("endpoint", f"{found.endpoint}, sequence {found.number}"),
            ("since", instant(found.created_at)),
            ("next try", "none" if found.due_at is None else instant(found.due_at)),
        ]
    )
    rows = [(one.number, instant(one.sent_at), one.milliseconds, one.status or one.failure, one.answer) for one in found.attempts]
    if rows:
        write_table("Tries", ["try", "sent", "ms", "status", "answer"], rows)


def _with_deliveries(data: Data, account: str | None, work: "Callable[[Deliveries, str], Awaitable[Result]]") -> Result:
    """Do something with a merchant's deliveries in the system that the flags name."""
    from guilder import folder
    from guilder.cli.system import NoSystem, with_database
    from guilder.core.clock import SystemClock
    from guilder.db import Database
    from guilder.role import run_in_loop
    from guilder.rooms import APP_ROLE, address
    from guilder.webhooks import Deliveries

    settings = load(data_dir=data)
    sandbox = folder.read_sandbox(settings)
    merchant = account or (sandbox.account if sandbox else None)
    if merchant is None:
        raise NoSystem(f"there is no sandbox merchant in {settings.data_dir}; name the merchant with --account")
    with with_database(settings) as found:

        async def do() -> Result:
            db = await Database.connect(address(found), role=APP_ROLE, max_size=1, name="webhooks")
            try:
                return await work(Deliveries(db, SystemClock(found.clock_file)), merchant)
            finally:
                await db.close()

        return run_in_loop(do())
