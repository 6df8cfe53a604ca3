"""Which connector an attempt is accepted for. Pure: the same payment and the same configuration give the same choice.

The choice is stored with the attempt and is never made again for it: an attempt in doubt belongs to its connector.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct

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


class Choice(Struct, frozen=True):
    """The route taken, and why, in words that `payments show` prints."""

    connector: str
    psp_merchant: str
    reason: str


def choose(
    routes: Sequence[Route],
    *,
    currency: str,
    amount_minor: int,
    brand: str,
    livemode: bool,
    tried: Collection[str] = (),
) -> Choice:
    """Choose the connector for a new attempt: the first configured one that takes it.

    Args:
        routes: in the order of preference.
        tried: connectors that this confirm has been sent to already; each is tried once.

    Raises:
        RouteRefused: nobody takes it; a live payment without a live connector among them.
    """
    left = [
        route
        for route in routes
        if _serves(route, livemode, currency, brand) and _takes_amount(route, amount_minor) and route.connector not in tried
    ]
    if not left:
        raise _refusal(routes, currency=currency, amount_minor=amount_minor, brand=brand, livemode=livemode)
    why = "the only" if len(left) == 1 else f"the first of {len(left)}"
    after = f" after {', '.join(sorted(tried))}" if tried else ""
    reason = f"{why} {_mode(livemode)} connector for {brand} in {currency}{after}"
    return Choice(left[0].connector, left[0].psp_merchant, reason)


def _mode(livemode: bool) -> str:
    return "live" if livemode else "test"


def _serves(route: Route, livemode: bool, currency: str, brand: str) -> bool:
    return route.livemode is livemode and _takes_currency(route, currency) and _takes_brand(route, brand)


def _takes_currency(route: Route, currency: str) -> bool:
    return route.declares.takes(currency) and (route.currencies is None or currency in route.currencies)


def _takes_brand(route: Route, brand: str) -> bool:
    return route.brands is None or brand in route.brands


def _takes_amount(route: Route, amount_minor: int) -> bool:
    above = route.amount_min is None or amount_minor >= route.amount_min
    return above and (route.amount_max is None or amount_minor <= route.amount_max)


def _refusal(routes: Sequence[Route], *, currency: str, amount_minor: int, brand: str, livemode: bool) -> RouteRefused:
    """The first reason that leaves no route: mode, currency, brand, amount; else all that would take it have been tried."""
    left = [route for route in routes if route.livemode is livemode]
    if not left:
        return RouteRefused(NoRoute.NO_CONNECTOR, f"No {_mode(livemode)} mode payment provider is configured.")
    left = [route for route in left if _takes_currency(route, currency)]
    if not left:
        return RouteRefused(NoRoute.CURRENCY, f"No payment provider takes {currency}.")
    left = [route for route in left if _takes_brand(route, brand)]
    if not left:
        return RouteRefused(NoRoute.BRAND, f"No payment provider takes {brand} cards.")
    if not any(_takes_amount(route, amount_minor) for route in left):
        return RouteRefused(NoRoute.AMOUNT, "The amount is outside the limits of every payment provider.")
    return RouteRefused(NoRoute.TRIED, "Every payment provider that takes this payment has been tried.")
