"""`guilder webhooks`: what was sent to receivers, what they answered, and sending it again."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

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
    """Show a delivery: where each try went and what was answered, and the headers and the body that are sent.

    Signatures and secrets are masked. Personal data stays sealed and is null here; GET /v1/webhook_deliveries/ID opens it.
    """

    async def read(deliveries: "Deliveries", merchant: str) -> "tuple[Delivery, bytes]":
        found = await deliveries.retrieve(merchant, id_, livemode=live)
        return found, await deliveries.body(found, _sealed)

    _show(*_with_deliveries(data, account, read), as_json=as_json)


@app.command()
def retry(id_: Id, live: Live = False, *, account: Account = None, data: Data = None, as_json: Json = False) -> None:
    """Send a delivery again, at once, whatever became of it so far."""

    async def order(deliveries: "Deliveries", merchant: str) -> "tuple[Delivery, bytes]":
        found = await deliveries.retry(merchant, id_, livemode=live)
        return found, await deliveries.body(found, _sealed)

    _show(*_with_deliveries(data, account, order), as_json=as_json)


async def _sealed(_account: str, _ids: Collection[str], _livemode: bool) -> Mapping[str, Mapping[str, Any]]:  # noqa: FBT001 - PersonalOf
    """Personal data as a command sees it: not at all."""
    return {}


def _show(found: "Delivery", body: bytes, *, as_json: bool) -> None:
    import msgspec
    from msgspec import structs

    from guilder.api.webhook_deliveries import delivery_json, request_json
    from guilder.cli.output import write_json, write_lines, write_table
    from guilder.cli.times import instant
    from guilder.security import mask_url

    # An address may have a key in its query, and a terminal is looked at by many.
    found = structs.replace(found, attempts=tuple(structs.replace(one, url=one.url and mask_url(one.url)) for one in found.attempts))
    request = request_json(found, _masked(msgspec.json.decode(body)))
    if as_json:
        write_json(delivery_json(found, request))
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
    rows = [(one.number, instant(one.sent_at), one.url, one.milliseconds, one.status or one.failure, one.answer) for one in found.attempts]
    if rows:
        write_table("Tries", ["try", "sent", "to", "ms", "status", "answer"], rows)
    typer.echo("Request, the same at each try but for time and signature\n")
    write_lines(list(request["headers"].items()))
    typer.echo("\n" + msgspec.json.format(msgspec.json.encode(request["body"]), indent=2).decode())


def _masked(value: object) -> object:
    """A JSON document without secrets in its texts."""
    from guilder.security import mask_text

    if isinstance(value, dict):
        return {name: _masked(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_masked(member) for member in value]
    return mask_text(value) if isinstance(value, str) else value


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
