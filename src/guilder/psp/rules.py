"""The routing rules as an operator writes them, in TOML: read, checked, and refused by the rule's name. Pure.

Each is a table [[rule]] with `name` and `connectors` (name to weight), and any of `currencies`, `brands`, `amount_min`,
`amount_max`, `mode` and `own_page`. docs/howto/psp.md shows them.
"""

import tomllib
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from guilder.core.currencies import CURRENCIES
from guilder.core.errors import GuilderError
from guilder.psp.router import Route, Rule

# More than anybody reads; each is looked at for every payment.
RULES_MAX: Final = 100
BRANDS: Final = frozenset({"amex", "diners", "discover", "jcb", "mastercard", "unionpay", "visa", "unknown"})
Weight = Annotated[int, Meta(ge=1, le=1_000_000)]
Amount = Annotated[int, Meta(ge=0)]


class WrongRules(GuilderError):
    """The rules cannot be used; the text names the rule and says what would be right."""


class _Written(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    connectors: dict[str, Weight]
    currencies: tuple[str, ...] | None = None
    brands: tuple[str, ...] | None = None
    amount_min: Amount | None = None
    amount_max: Amount | None = None
    mode: Literal["test", "live"] | None = None
    own_page: bool | None = None


def read_rules(text: str, routes: Sequence[Route]) -> tuple[Rule, ...]:
    """The rules of a file, for these routes. Raises WrongRules."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongRules(f"the routing rules are no TOML: {error}") from None
    entries = document.pop("rule", [])
    if document or not isinstance(entries, list):
        raise WrongRules(f"the routing rules hold [[rule]] tables and nothing else, not {sorted(document) or 'a single [rule]'}")
    if len(entries) > RULES_MAX:
        raise WrongRules(f"there are {len(entries)} routing rules; {RULES_MAX} are the most")
    rules = tuple(_rule(number, entry, routes) for number, entry in enumerate(entries, start=1))
    for number, rule in enumerate(rules):
        if any(rule.name == other.name for other in rules[:number]):
            raise WrongRules(f'routing rule "{rule.name}" stands there twice; give each a name of its own')
    return rules


def _rule(number: int, entry: object, routes: Sequence[Route]) -> Rule:
    name = entry.get("name") if isinstance(entry, dict) else None
    called = f'routing rule "{name}"' if isinstance(name, str) and name else f"routing rule {number}"
    try:
        written = msgspec.convert(entry, _Written)
    except msgspec.ValidationError as error:
        raise WrongRules(f"{called}: {error}") from None
    problem = _problem(written, routes)
    if problem is not None:
        raise WrongRules(f"{called}: {problem}")
    return Rule(
        name=written.name, connectors=tuple(written.connectors.items()), currencies=_set(written.currencies), brands=_set(written.brands),
        amount_min=written.amount_min, amount_max=written.amount_max, livemode=None if written.mode is None else written.mode == "live",
        own_page=written.own_page,
    )  # fmt: skip


def _problem(written: _Written, routes: Sequence[Route]) -> str | None:
    """What is wrong with a rule that has the right form; None for nothing."""
    unknown = [currency for currency in written.currencies or () if currency not in CURRENCIES]
    strange = [brand for brand in written.brands or () if brand not in BRANDS]
    if not written.connectors:
        return "`connectors` must name at least one, as { cardnet = 1 }"
    if unknown:
        return f"`currencies` are lower-case codes of ISO 4217, not {unknown[0]!r}"
    if strange:
        return f"`brands` are of {', '.join(sorted(BRANDS))}, not {strange[0]!r}"
    if written.brands is not None and written.own_page:
        return "`brands` and `own_page = true` exclude each other: at the PSP's own page no card is known"
    if written.amount_min is not None and written.amount_max is not None and written.amount_min > written.amount_max:
        return f"`amount_min` {written.amount_min} is above `amount_max` {written.amount_max}"
    return _missing(written, routes)


def _missing(written: _Written, routes: Sequence[Route]) -> str | None:
    """A connector that the rule names and that cannot take what it is for."""
    for name in written.connectors:
        known = [route for route in routes if route.connector == name]
        if not known:
            return f"there is no connector {name!r}; there are {', '.join(sorted({route.connector for route in routes}))}"
        if written.mode is not None and not any(route.livemode == (written.mode == "live") for route in known):
            return f"the connector {name!r} does not serve {written.mode} mode"
        if written.own_page and not any(route.declares.own_page for route in known):
            return f"the connector {name!r} has no page of its own"
    return None


def _set(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)
