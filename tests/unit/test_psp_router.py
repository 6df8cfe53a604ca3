"""Which connector an attempt is accepted for, and why none is."""

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from guilder.cli import app
from guilder.cli.route import WrongOption
from guilder.psp.errors import NoRoute, RouteRefused
from guilder.psp.model import ContractClass, Declares
from guilder.psp.router import Asked, Choice, Route, Rule, choose, consider, misfit
from guilder.psp.rules import WrongRules, read_rules

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
    assert choose(routes, **PAYMENT) == Choice("second", "M2", "the first of 2 test connectors for visa in eur")


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


def rule(name: str = "a", **changes: Any) -> Rule:
    """A rule that fits everything and names the second route."""
    return Rule(**({"name": name, "connectors": (("second", 1),)} | changes))


BOTH = [route("first"), route("second", psp_merchant="M2")]


def test_the_first_rule_that_fits_decides_and_its_name_is_the_reason() -> None:
    """Those before it do not fit, those after it are not asked."""
    rules = [rule("francs", currencies=frozenset({"chf"})), rule("all"), rule("late", connectors=(("first", 1),))]
    assert choose(BOTH, **PAYMENT, rules=rules) == Choice("second", "M2", 'rule "all"')


def test_a_rule_whose_connectors_do_not_take_the_payment_is_passed_over() -> None:
    """So is one whose connector has been tried; where none decides, the first connector is taken."""
    only_francs = [route("first"), route("second", currencies=frozenset({"chf"}))]
    assert choose(only_francs, **PAYMENT, rules=[rule()]).connector == "first"
    assert choose(BOTH, **PAYMENT, rules=[rule()], tried=["second"]).connector == "first"


@pytest.mark.parametrize(("changes", "why"), [
    ({"currencies": frozenset({"usd"})}, "is for usd"),
    ({"brands": frozenset({"amex"})}, "is for amex cards"),
    ({"amount_min": 1_001}, "is for amounts from 1001"),
    ({"amount_max": 999}, "is for amounts up to 999"),
    ({"livemode": True}, "is for live mode"),
    ({"own_page": True}, "is for payments at the PSP's own page"),
    ({"amount_min": 1_000, "amount_max": 1_000, "own_page": False, "livemode": False}, None),
])  # fmt: skip
def test_a_rule_fits_by_all_that_it_names(changes: dict[str, Any], why: str | None) -> None:
    """Amounts are included; what is not named fits everything."""
    assert misfit(rule(**changes), Asked(**PAYMENT)) == why


def test_of_several_connectors_each_payment_falls_to_one_by_weight_and_always_the_same() -> None:
    """Three in four, within what a thousand payments allow; the id decides, nothing is drawn."""
    weighted = [rule(connectors=(("first", 3), ("second", 1)))]
    chosen = [choose(BOTH, **PAYMENT, rules=weighted, payment=f"pi_{number}").connector for number in range(1_000)]
    assert 700 < chosen.count("first") < 800
    assert chosen == [choose(BOTH, **PAYMENT, rules=weighted, payment=f"pi_{number}").connector for number in range(1_000)]
    assert choose(BOTH, **PAYMENT, rules=weighted, payment="pi_1").reason.startswith('rule "a", weight ')


def test_a_page_of_the_psps_own_goes_only_where_there_is_one() -> None:
    """Rules for brands never fit it: no card is known."""
    declares = replace(route().declares, own_page=True)
    routes = [route("first"), replace(route("second"), declares=declares)]
    asked = PAYMENT | {"own_page": True}
    assert choose(routes, **asked, rules=[rule(brands=frozenset({"visa"}), connectors=(("first", 1),))]).connector == "second"
    with pytest.raises(RouteRefused) as refused:
        choose(routes[:1], **asked)
    assert refused.value.code is NoRoute.OWN_PAGE


def test_a_card_at_a_reader_goes_only_where_readers_are_known() -> None:
    """Whatever a rule says."""
    routes = [route("first"), replace(route("second"), declares=replace(route().declares, card_present=False))]
    assert choose(routes, **PAYMENT, card_present=True, rules=[rule()]).connector == "first"
    with pytest.raises(RouteRefused, match="at a reader"):
        choose(routes[1:], **PAYMENT, card_present=True)


def test_considering_tells_of_every_rule_up_to_the_one_that_decides() -> None:
    """What `guilder route explain` prints."""
    rules = [rule("francs", currencies=frozenset({"chf"})), rule("all"), rule("late")]
    told = [(one.rule, one.verdict) for one in consider(BOTH, rules, Asked(**PAYMENT))]
    assert told == [("francs", "is for chf"), ("all", "decides")]


def test_rules_are_read_as_they_are_written() -> None:
    """Everything that one can say."""
    text = """
    [[rule]]
    name = "all of it"
    currencies = ["eur"]
    brands = ["visa"]
    amount_min = 1
    amount_max = 5000
    mode = "test"
    own_page = false
    connectors = { first = 3, second = 1 }
    """
    assert read_rules(text, BOTH) == (Rule(
        name="all of it", connectors=(("first", 3), ("second", 1)), currencies=frozenset({"eur"}), brands=frozenset({"visa"}),
        amount_min=1, amount_max=5_000, livemode=False, own_page=False,
    ),)  # fmt: skip
    assert read_rules("", BOTH) == ()


@pytest.mark.parametrize(("written", "problem"), [
    ('connectors = { third = 1 }', "there is no connector 'third'; there are first, second"),
    ('connectors = {}', "must name at least one"),
    ('connectors = { first = 0 }', ">= 1"),
    ('connectors = { first = 1 }\ncurrencies = ["EUR"]', "lower-case codes of ISO 4217, not 'EUR'"),
    ('connectors = { first = 1 }\nbrands = ["visas"]', "not 'visas'"),
    ('connectors = { first = 1 }\namount_min = 2\namount_max = 1', "`amount_min` 2 is above `amount_max` 1"),
    ('connectors = { first = 1 }\namont_max = 1', "amont_max"),
    ('connectors = { first = 1 }\nmode = "live"', "the connector 'first' does not serve live mode"),
    ('connectors = { first = 1 }\nown_page = true', "the connector 'first' has no page of its own"),
    ('connectors = { first = 1 }\nbrands = ["visa"]\nown_page = true', "exclude each other"),
])  # fmt: skip
def test_a_rule_that_cannot_be_right_is_refused_by_its_name(written: str, problem: str) -> None:
    """With what would be right."""
    with pytest.raises(WrongRules) as refused:
        read_rules(f'[[rule]]\nname = "mine"\n{written}', BOTH)
    assert str(refused.value).startswith('routing rule "mine": ')
    assert problem in str(refused.value)


@pytest.mark.parametrize(("text", "problem"), [
    ("[[rule", "are no TOML"),
    ("[[rules]]", "[[rule]] tables and nothing else"),
    ('[[rule]]\nconnectors = { first = 1 }', "routing rule 1: "),
    ('[[rule]]\nname = "a"\nconnectors = { first = 1 }\n' * 2, "stands there twice"),
])  # fmt: skip
def test_a_file_that_holds_no_rules_is_refused(text: str, problem: str) -> None:
    """Before anything starts."""
    with pytest.raises(WrongRules, match=re.escape(problem)):
        read_rules(text, BOTH)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--currency", "xxx", "--currency must be a currency's code of ISO 4217, such as eur, not 'xxx'"),
        ("--currency", "", "--currency must be"),
        ("--brand", "foo", "--brand must be one of amex, diners, .*, visa, not 'foo'"),
    ],
)
def test_route_explain_refuses_what_no_payment_can_be(tmp_path: Path, option: str, value: str, says: str) -> None:
    """By the option's name, with what would be right; it does not tell where such a payment would go."""
    done = CliRunner().invoke(app, ["route", "explain", "--data", str(tmp_path), option, value])
    assert isinstance(done.exception, WrongOption)
    assert re.match(says, str(done.exception))
    assert done.output == ""


def test_route_explain_takes_currency_and_brand_in_any_case(tmp_path: Path) -> None:
    """As people write them."""
    done = CliRunner().invoke(app, ["route", "explain", "--data", str(tmp_path), "--currency", "EUR", "--brand", "Visa"])
    assert (done.exit_code, "for visa in eur" in done.output) == (0, True), done.output
