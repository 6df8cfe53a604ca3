"""Which connector an attempt is accepted for, and why none is."""

from typing import Any

import pytest

from guilder.psp.errors import NoRoute, RouteRefused
from guilder.psp.model import ContractClass, Declares
from guilder.psp.router import Choice, Route, choose

PAYMENT: dict[str, Any] = {"currency": "eur", "amount_minor": 1_000, "brand": "visa", "livemode": False}


def route(connector: str = "cardnet", *, takes: frozenset[str] | None = None, **changes: Any) -> Route:
    """A test mode route that takes everything, with changes."""
    declares = Declares(
        contract_class=ContractClass.KEY_QUERY_VOID, idempotency_window_seconds=86_400, partial_capture=True,
        multiple_capture=False, currencies=takes, three_d_secure=False, remembers_reversals=True,
        finality_horizon_seconds=None,
    )  # fmt: skip
    fields: dict[str, Any] = {"connector": connector, "psp_merchant": "M1", "livemode": False, "declares": declares}
    return Route(**(fields | changes))


def test_the_first_route_that_takes_the_payment_is_chosen_and_says_why() -> None:
    """Order is preference; the reason goes into the attempt's row."""
    routes = [route("first", brands=frozenset({"amex"})), route("second", psp_merchant="M2"), route("third")]
    assert choose(routes, **PAYMENT) == Choice("second", "M2", "the first of 2 test connector for visa in eur")


def test_the_only_route_says_so() -> None:
    """One connector, as in the sandbox."""
    assert choose([route()], **PAYMENT).reason == "the only test connector for visa in eur"


@pytest.mark.parametrize(
    ("routes", "changes", "code"),
    [
        ([], {}, NoRoute.NO_CONNECTOR),
        ([route()], {"livemode": True}, NoRoute.NO_CONNECTOR),
        ([route(livemode=True)], {}, NoRoute.NO_CONNECTOR),
        ([route(takes=frozenset({"usd"}))], {}, NoRoute.CURRENCY),
        ([route(currencies=frozenset({"usd"}))], {}, NoRoute.CURRENCY),
        ([route(brands=frozenset({"amex"}))], {}, NoRoute.BRAND),
        ([route(amount_min=1_001)], {}, NoRoute.AMOUNT),
        ([route(amount_max=999)], {}, NoRoute.AMOUNT),
        ([route()], {"tried": ["cardnet"]}, NoRoute.TRIED),
        ([route(takes=frozenset({"usd"}), brands=frozenset())], {}, NoRoute.CURRENCY),
    ],
)
def test_a_payment_that_nobody_takes_is_refused_with_the_first_reason(
    routes: list[Route], changes: dict[str, Any], code: NoRoute
) -> None:
    """A live payment without a live connector among them; precedence is mode, currency, brand, amount, tried."""
    with pytest.raises(RouteRefused) as refused:
        choose(routes, **(PAYMENT | changes))
    assert refused.value.code is code


def test_limits_of_the_amount_are_both_included() -> None:
    """A route for exactly this amount takes it."""
    assert choose([route(amount_min=1_000, amount_max=1_000)], **PAYMENT).connector == "cardnet"


def test_a_successor_goes_to_a_connector_that_was_not_tried() -> None:
    """Each connector is tried once per confirm; the reason names those before."""
    choice = choose([route("first"), route("second")], **PAYMENT, tried=["first"])
    assert choice == Choice("second", "M1", "the only test connector for visa in eur after first")
