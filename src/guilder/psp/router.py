"""Which connector an attempt is accepted for. Pure: the same payment and the same configuration give the same choice.

The configured rules are asked in their order: the first one that fits the payment, and has a connector that takes it, decides;
where it names several, each payment falls to one of them by weight, always to the same one. Where no rule does, the first
connector that takes the payment is taken.

The choice is stored with the attempt, with its reason, and is never made again for it: an attempt in doubt belongs to its
connector.
"""

from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b

from msgspec import Struct
from msgspec.structs import replace

from guilder.core.ensure import InvariantBroken
from guilder.psp.errors import NoRoute, RouteRefused
from guilder.psp.model import Declares


class Route(Struct, frozen=True, kw_only=True):
    """One configured way to a PSP.

    Args:
        psp_merchant: our merchant's id there.
        livemode: it moves real money. A route serves one mode only.
        currencies, brands: None for all that the connector takes.
        amount_min, amount_max: minor units, both included; None without a limit.
    """

    connector: str
    psp_merchant: str
    livemode: bool
    declares: Declares
    currencies: frozenset[str] | None = None
    brands: frozenset[str] | None = None
    amount_min: int | None = None
    amount_max: int | None = None


class Asked(Struct, frozen=True, kw_only=True):
    """A payment, as far as routes and rules look at it.

    Args:
        brand: of the card; empty where there is none.
        own_page: the buyer is to pay at the PSP's own page.
        card_present: a reader has read the card.
        payment: its id, by which it falls to one of several connectors; empty for one that is only asked about.
    """

    currency: str
    amount_minor: int
    brand: str
    livemode: bool
    own_page: bool = False
    card_present: bool = False
    payment: str = ""


class Rule(Struct, frozen=True, kw_only=True):
    """Which payments go to which connectors. What is None fits every payment.

    Args:
        connectors: name and weight of each, in order; of weights 3 and 1 the first gets three payments in four.
        currencies: lower-case ISO 4217 codes.
        brands: of the card; payments at the PSP's own page have none, so a rule with brands never fits them.
        amount_min, amount_max: minor units of the payment's currency, both included.
        livemode: fits this mode only.
        own_page: fits payments at the PSP's own page only, or only the others.
    """

    name: str
    connectors: tuple[tuple[str, int], ...]
    currencies: frozenset[str] | None = None
    brands: frozenset[str] | None = None
    amount_min: int | None = None
    amount_max: int | None = None
    livemode: bool | None = None
    own_page: bool | None = None


class Choice(Struct, frozen=True):
    """The route taken, and why, in words that `payments show` prints."""

    connector: str
    psp_merchant: str
    reason: str


class Considered(Struct, frozen=True):
    """What became of one rule: why it does not decide, or the choice that it makes."""

    rule: str
    verdict: str
    choice: Choice | None = None


def choose(
    routes: Sequence[Route],
    *,
    currency: str,
    amount_minor: int,
    brand: str,
    livemode: bool,
    tried: Collection[str] = (),
    own_page: bool = False,
    card_present: bool = False,
    payment: str = "",
    rules: Sequence[Rule] = (),
) -> Choice:
    """Choose the connector for a new attempt.

    Args:
        routes: in the order of preference.
        tried: connectors that this confirm has been sent to already; each is tried once.
        own_page, card_present, payment: as in Asked.
        rules: in the order in which they are asked.

    Raises:
        RouteRefused: nobody takes it; a live payment without a live connector among them.
    """
    asked = Asked(
        currency=currency, amount_minor=amount_minor, brand=brand, livemode=livemode, own_page=own_page,
        card_present=card_present, payment=payment,
    )  # fmt: skip
    left = [route for route in routes if _takes(route, asked) and route.connector not in tried]
    if not left:
        raise _refusal(routes, asked)
    after = f" after {', '.join(sorted(tried))}" if tried else ""
    for considered in consider(left, rules, asked):
        if considered.choice is not None:
            return replace(considered.choice, reason=considered.choice.reason + after)
    what = "the buyer at its own page" if own_page else brand
    mode = _mode(livemode)
    why = f"the only {mode} connector" if len(left) == 1 else f"the first of {len(left)} {mode} connectors"
    reason = f"{why} for {what} in {currency}{after}"
    return Choice(left[0].connector, left[0].psp_merchant, reason)


def consider(routes: Sequence[Route], rules: Sequence[Rule], asked: Asked) -> Iterator[Considered]:
    """What becomes of each rule, in order, up to the one that decides. `routes` are those that may be taken."""
    for rule in rules:
        why_not = misfit(rule, asked)
        if why_not is not None:
            yield Considered(rule.name, why_not)
            continue
        able = {route.connector: route for route in routes if _takes(route, asked)}
        weighted = [(able[name], weight) for name, weight in rule.connectors if name in able]
        if not weighted:
            yield Considered(rule.name, "fits, but none of its connectors takes this payment")
            continue
        several = ", ".join(f"{route.connector} ({weight})" for route, weight in weighted)
        verdict = "decides" if len(weighted) == 1 else f"decides, by weight: {several}"
        yield Considered(rule.name, verdict, _weighed(rule, weighted, asked))
        return


def misfit(rule: Rule, asked: Asked) -> str | None:
    """Why a rule does not fit a payment; None when it does."""
    if rule.livemode not in (None, asked.livemode):
        return f"is for {_mode(not asked.livemode)} mode"
    if rule.own_page not in (None, asked.own_page):
        return "is for payments at the PSP's own page" if rule.own_page else "is for payments with a card"
    if rule.currencies is not None and asked.currency not in rule.currencies:
        return f"is for {', '.join(sorted(rule.currencies))}"
    if rule.brands is not None and (asked.own_page or asked.brand not in rule.brands):
        return f"is for {', '.join(sorted(rule.brands))} cards"
    if rule.amount_min is not None and asked.amount_minor < rule.amount_min:
        return f"is for amounts from {rule.amount_min}"
    if rule.amount_max is not None and asked.amount_minor > rule.amount_max:
        return f"is for amounts up to {rule.amount_max}"
    return None


def _weighed(rule: Rule, weighted: Sequence[tuple[Route, int]], asked: Asked) -> Choice:
    """The connector that a payment falls to: its place in the sum of the weights follows from its id."""
    total = sum(weight for _, weight in weighted)
    digest = blake2b(f"{rule.name}:{asked.payment}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") % total
    passed = 0
    for route, weight in weighted:
        passed += weight
        if place < passed:
            share = f", weight {weight} of {total}" if len(weighted) > 1 else ""
            return Choice(route.connector, route.psp_merchant, f'rule "{rule.name}"{share}')
    raise InvariantBroken(f"a place lies within the weights (rule={rule.name!r})")


def _mode(livemode: bool) -> str:
    return "live" if livemode else "test"


def _takes(route: Route, asked: Asked) -> bool:
    mode = route.livemode is asked.livemode
    return mode and _takes_currency(route, asked) and _takes_kind(route, asked) and _takes_amount(route, asked)


def _takes_currency(route: Route, asked: Asked) -> bool:
    return route.declares.takes(asked.currency) and (route.currencies is None or asked.currency in route.currencies)


def _takes_kind(route: Route, asked: Asked) -> bool:
    if asked.own_page:
        return route.declares.own_page
    if asked.card_present and not route.declares.card_present:
        return False
    return route.brands is None or asked.brand in route.brands


def _takes_amount(route: Route, asked: Asked) -> bool:
    above = route.amount_min is None or asked.amount_minor >= route.amount_min
    return above and (route.amount_max is None or asked.amount_minor <= route.amount_max)


def _refusal(routes: Sequence[Route], asked: Asked) -> RouteRefused:
    """The first reason that leaves no route: mode, currency, kind, amount; else all that would take it have been tried."""
    left = [route for route in routes if route.livemode is asked.livemode]
    if not left:
        return RouteRefused(NoRoute.NO_CONNECTOR, f"No {_mode(asked.livemode)} mode payment provider is configured.")
    left = [route for route in left if _takes_currency(route, asked)]
    if not left:
        return RouteRefused(NoRoute.CURRENCY, f"No payment provider takes {asked.currency}.")
    left = [route for route in left if _takes_kind(route, asked)]
    if not left and asked.own_page:
        return RouteRefused(NoRoute.OWN_PAGE, "No payment provider has a page of its own at which buyers pay.")
    if not left and asked.card_present:
        return RouteRefused(NoRoute.BRAND, f"No payment provider takes {asked.brand} cards at a reader.")
    if not left:
        return RouteRefused(NoRoute.BRAND, f"No payment provider takes {asked.brand} cards.")
    if not any(_takes_amount(route, asked) for route in left):
        return RouteRefused(NoRoute.AMOUNT, "The amount is outside the limits of every payment provider.")
    return RouteRefused(NoRoute.TRIED, "Every payment provider that takes this payment has been tried.")
