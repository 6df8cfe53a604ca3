"""What the demo shows: a progress bar while it works, then what happened, the books, and how to go on."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec import Struct
from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from guilder.cli.output import write_json
from guilder.core.money import format_minor
from guilder.demo.model import Done
from guilder.demo.shop import ADDRESSES
from guilder.integrity import Result

# Where `guilder up` listens and keeps its test keys when nothing else is said.
FIRST_ADDRESS: Final = "http://127.0.0.1:8420"
OWN_KEY: Final = 'json.load(open("guilder-data/sandbox.json"))["secret_key"]'

Progress = Callable[[str | None, int], None]
"""Says what is being done now (None: still the same), and how many steps are done since the last call."""


class Merchant(Struct, frozen=True, kw_only=True):
    """The merchant that the demo made, and its test keys."""

    id: str
    name: str
    secret_key: str
    publishable_key: str


class Kept(Struct, frozen=True, kw_only=True):
    """The system that was left running."""

    api: str
    network_control: str
    data: str
    pid: int


class Outcome(Struct, frozen=True, kw_only=True):
    """All that the demo found."""

    done: Sequence[Done]
    results: Sequence[Result]
    balance: Mapping[str, tuple[int, int]]
    trial_balance: Mapping[str, Any]
    merchant: Merchant
    seconds: float
    kept: Kept | None
    stopped: bool

    @property
    def well(self) -> bool:
        """Whether all of it was as it should be, the bank world's truth included."""
        return (
            all(one.well for one in self.done)
            and not any(result.violated or result.skipped for result in self.results)
            and bool(self.trial_balance["balanced"])
            and self.stopped
        )


@contextmanager
def meter(steps: int, *, quiet: bool) -> Iterator[Progress]:
    """A progress bar where a person looks; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _steps: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)

        def tell(what: str | None, done: int) -> None:
            if what is not None:
                bar.update(task, description=what)
            bar.advance(task, done)

        yield tell


def show(outcome: Outcome, *, as_json: bool) -> None:
    """The whole report on standard output."""
    if as_json:
        write_json(_document(outcome))
        return
    console = Console(highlight=False)
    console.print(Padding(_acts(outcome.done), (1, 0)))
    console.print(Group(_trial(outcome.trial_balance), "", _balance(outcome), "", _proof(outcome.results)))
    console.print(f"\n{_words(outcome)}", soft_wrap=True)


def _document(outcome: Outcome) -> dict[str, object]:
    return {
        "ok": outcome.well,
        "seconds": round(outcome.seconds, 3),
        "merchant": outcome.merchant,
        "acts": [{"ok": one.well, **_fields(one)} for one in outcome.done],
        "trial_balance": outcome.trial_balance,
        "balance": [
            {"currency": currency, "available": available, "pending": pending}
            for currency, (available, pending) in outcome.balance.items()
        ],
        "checks": outcome.results,
        "kept": outcome.kept,
    }


def _fields(one: Done) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def _acts(done: Sequence[Done]) -> Table:
    table = Table(title="What happened", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("", "", "Amount", "Outcome", "Time"):
        table.add_column(name, justify="right" if name in ("Amount", "Time") else "left")
    group = ""
    for one in done:
        if one.group != group:
            table.add_row("", f"[bold]{one.group}[/]")
            group = one.group
        outcome = escape(one.happened)
        if not one.well:
            outcome = f"[red]{outcome}[/]\n[dim]expected: {escape(one.expected)}[/]"
        mark = "[green]✓[/]" if one.well else "[red]✗[/]"
        table.add_row(mark, one.what, one.amount, outcome, f"[dim]{one.seconds * 1000:,.0f} ms[/]")
    return table


def _trial(trial: Mapping[str, Any]) -> Table:
    table = Table(title="Trial balance", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("", "Debits", "Credits", "Difference"):
        table.add_column(name, justify="right" if name else "left")
    for line in trial["totals"]:
        currency, debits, credits_ = line["currency"], line["debits_posted"], line["credits_posted"]
        difference = format_minor(debits - credits_, currency)
        shown = difference if debits != credits_ else f"[green]{difference}[/]"
        table.add_row(currency.upper(), format_minor(debits, currency), format_minor(credits_, currency), shown)
    return table


def _balance(outcome: Outcome) -> Table:
    title = f"Balance of {escape(outcome.merchant.name)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("", "Available", "Pending"):
        table.add_column(name, justify="right" if name else "left")
    for currency, (available, pending) in outcome.balance.items():
        table.add_row(currency.upper(), format_minor(available, currency), format_minor(pending, currency))
    return table


def _proof(results: Sequence[Result]) -> str:
    """What `guilder check` says, in as few lines as it takes."""
    broken = [violation for result in results for violation in result.violations]
    skipped = [f"[red]✗[/] {escape(result.title)}: skipped, {escape(result.skipped)}" for result in results if result.skipped]
    lines = [f"[red]✗[/] {one.check}: {escape(one.subject)} {escape(one.message)}" for one in broken] + skipped
    if lines:
        return "\n".join(lines)
    return f"[green]✓[/] {len(results)} invariants hold; the bank's truth and the books agree to the minor unit."


def _words(outcome: Outcome) -> str:
    """How long it took, and how to go on."""
    guilder = _command()
    story = next((one.payment for one in outcome.done if one.group == "Resolved"), "")
    head = f"[bold]{len(outcome.done)} acts in {outcome.seconds:.1f} s.[/]"
    if outcome.kept is not None:
        kept = outcome.kept
        return (
            f"{head} It goes on running:\n\n"
            f"  API              {kept.api}\n"
            f"  Secret key       {outcome.merchant.secret_key}\n"
            f"  Publishable key  {outcome.merchant.publishable_key}\n"
            f"  Bank world       {kept.network_control}\n"
            f"  Look             {guilder} payments show {story} --data {kept.data}\n"
            f"  Prove            {guilder} check --data {kept.data}\n"
            f"  Stop             kill {kept.pid}\n\n"
            "Take a payment in Python:\n\n"
            f"{escape(snippet(kept.api, json.dumps(outcome.merchant.secret_key)))}"
        )
    return (
        f"{head} Start it for yourself (data in ./guilder-data; it shows the keys):\n\n"
        f"  {guilder} up\n\n"
        "and take a payment in Python:\n\n"
        f"{escape(snippet(FIRST_ADDRESS, OWN_KEY))}\n\n"
        "Watch it, see one payment's whole story, prove the books:\n\n"
        f"  {guilder} events tail -f\n"
        f"  {guilder} payments show ID\n"
        f"  {guilder} check"
    )


def snippet(api: str, key: str) -> str:
    """A payment in Python, to be pasted as it is; `key` is the expression for the secret key."""
    return (
        "import json, stripe\n"
        f"key = {key}\n"
        f"shop = stripe.StripeClient(key, base_addresses=dict.fromkeys({json.dumps(ADDRESSES)}, {json.dumps(api)}))\n"
        'order = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}\n'
        "print(shop.v1.payment_intents.create(order).status)"
    )


def _command() -> str:
    """The command line as this person reaches it."""
    import os
    import shutil
    from pathlib import Path

    here = Path(sys.argv[0])
    found = shutil.which("guilder")
    if here.name != "guilder" or (found is not None and Path(found).resolve() == here.resolve()):
        return "guilder"
    return os.path.relpath(here)
