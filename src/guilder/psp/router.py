"""Which connector an attempt is accepted for. Pure: the same payment and the same configuration give the same choice.

The choice is stored with the attempt and is never made again for it: an attempt in doubt belongs to its connector.
"""

from collections.abc import Callable, Collection, Sequence

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
    mode = "live" if livemode else "test"
    left = list(routes)
    for code, message, takes in (
        (NoRoute.NO_CONNECTOR, f"No {mode} mode payment provider is configured.", _mode_is(livemode)),
        (NoRoute.CURRENCY, f"No payment provider takes {currency}.", _takes_currency(currency)),
        (NoRoute.BRAND, f"No payment provider takes {brand} cards.", _takes_brand(brand)),
        (NoRoute.AMOUNT, "The amount is outside the limits of every payment provider.", _takes_amount(amount_minor)),
        (NoRoute.TRIED, "Every payment provider that takes this payment has been tried.", _not_among(tried)),
    ):
        left = [route for route in left if takes(route)]
        if not left:
            raise RouteRefused(code, message)
    why = "the only" if len(left) == 1 else f"the first of {len(left)}"
    after = f" after {', '.join(sorted(tried))}" if tried else ""
    reason = f"{why} {mode} connector for {brand} in {currency}{after}"
    return Choice(left[0].connector, left[0].psp_merchant, reason)


_Takes = Callable[[Route], bool]


def _mode_is(livemode: bool) -> _Takes:
    return lambda route: route.livemode is livemode


def _takes_currency(currency: str) -> _Takes:
    return lambda route: route.declares.takes(currency) and (route.currencies is None or currency in route.currencies)


def _takes_brand(brand: str) -> _Takes:
    return lambda route: route.brands is None or brand in route.brands


def _takes_amount(amount_minor: int) -> _Takes:
    def takes(route: Route) -> bool:
        above = route.amount_min is None or amount_minor >= route.amount_min
        return above and (route.amount_max is None or amount_minor <= route.amount_max)

    return takes


def _not_among(tried: Collection[str]) -> _Takes:
    return lambda route: route.connector not in tried
