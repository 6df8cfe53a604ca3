"""`guilder route`: which PSP a payment goes to, and why."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from guilder.cli.options import Data, Json, load
from guilder.core.errors import GuilderError

if TYPE_CHECKING:
    from guilder.config import Settings
    from guilder.integrity import Moment
    from guilder.psp import Asked, Choice, Considered

app = typer.Typer(help="Which payment provider a payment goes to.", no_args_is_help=True, rich_markup_mode=None)

# What an operator who only wants to see the rules at work need not say.
AMOUNT: Final = 1_000
CURRENCY: Final = "eur"
BRAND: Final = "visa"


class WrongOption(GuilderError):
    """An option of the command line that no payment could have; the message names it and says what would be right."""


@app.callback()
def _group() -> None:
    """Keeps `explain` a command of its own while it is the only one."""


@app.command()
def explain(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A payment, charge, refund or attempt: why it went where it went."),
    ] = None,
    amount: Annotated[int, typer.Option(min=1, help="In minor units of the currency.")] = AMOUNT,
    currency: Annotated[str, typer.Option(help="The code of ISO 4217.")] = CURRENCY,
    brand: Annotated[str, typer.Option(help="The card's brand: visa, mastercard, amex and so on.")] = BRAND,
    *,
    own_page: Annotated[bool, typer.Option("--own-page", help="The buyer pays at the PSP's own page.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tell why a payment went to its payment provider, or, without ID, where one like this would go, rule by rule."""
    from guilder.psp import Asked

    settings = load(data_dir=data)
    if id_ is not None:
        _past(settings, id_, as_json=as_json)
        return
    asked = Asked(
        currency=_currency(currency), amount_minor=amount, brand="" if own_page else _brand(brand), livemode=live, own_page=own_page,
    )  # fmt: skip
    _future(settings, asked, as_json=as_json)


def _currency(given: str) -> str:
    from guilder.core.currencies import CURRENCIES

    if given.lower() not in CURRENCIES:
        raise WrongOption(f"--currency must be a currency's code of ISO 4217, such as {CURRENCY}, not {given!r}")
    return given.lower()


def _brand(given: str) -> str:
    from guilder.psp import BRANDS

    if given.lower() not in BRANDS:
        raise WrongOption(f"--brand must be one of {', '.join(sorted(BRANDS))}, not {given!r}")
    return given.lower()


def _past(settings: "Settings", id_: str, *, as_json: bool) -> None:
    """The choices that were made and stored, one for each attempt."""
    from guilder.cli.output import write_json
    from guilder.cli.system import with_database
    from guilder.cli.times import instant
    from guilder.integrity import tell
    from guilder.role import run_in_loop
    from guilder.rooms import address

    with with_database(settings) as known:
        story = run_in_loop(tell(address(known), id_))
    attempts: list[Moment] = [moment for moment in story.moments if moment.kind == "attempt"]
    if as_json:
        choices = [{"attempt": moment.about, "at": moment.at, "what": moment.what} for moment in attempts]
        write_json({"payment": story.payment, "attempts": choices})
        return
    if not attempts:
        typer.echo(f"{story.payment} has not been sent to anybody.")
    for moment in attempts:
        typer.echo(f"{instant(moment.at)}  {moment.about}  {moment.what}")


def _future(settings: "Settings", asked: "Asked", *, as_json: bool) -> None:
    """What the rules of this installation would do with a payment."""
    from guilder.cli.output import write_json
    from guilder.psp import RouteRefused, choose, consider
    from guilder.psp.connectors import configured

    routes, rules = configured.routes(settings), configured.rules(settings)
    considered = list(consider(routes, rules, asked))
    choice: Choice | None = None
    try:
        choice = choose(
            routes, currency=asked.currency, amount_minor=asked.amount_minor, brand=asked.brand, livemode=asked.livemode,
            own_page=asked.own_page, rules=rules,
        )  # fmt: skip
        outcome = f"{choice.connector}: {choice.reason}"
    except RouteRefused as refused:
        outcome = f"nobody: {refused}"
    if as_json:
        write_json(_as_document(considered, choice, outcome))
        return
    for one in considered:
        typer.echo(f'rule "{one.rule}" {one.verdict}')
    if not rules:
        typer.echo("There are no rules (GUILDER_ROUTES): the first connector that takes a payment is taken.")
    weighed = choice is not None and "weight" in choice.reason
    typer.echo("Each payment falls to one of these, by its id." if weighed else outcome)


def _as_document(considered: "list[Considered]", choice: "Choice | None", outcome: str) -> dict[str, Any]:
    return {
        "rules": [{"rule": one.rule, "verdict": one.verdict} for one in considered],
        "connector": choice.connector if choice else None,
        "outcome": outcome,
    }
