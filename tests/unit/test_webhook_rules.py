"""What may be subscribed to, the schedule, and which addresses nothing is sent to: tables, one line per case."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

import guilder
from guilder.core.clock import DAY, HOUR, MINUTE, SECOND, ManualClock, Micros
from guilder.core.errors import Refusal
from guilder.core.retry import Budget, Jitter
from guilder.tuning import RETRIES
from guilder.webhooks import Allowed, types
from guilder.webhooks.addresses import check_url, numeric
from guilder.webhooks.rules import (
    FAILURES_MIN,
    asked_wait,
    in_budget,
    next_due,
    succeeded,
)
from guilder.webhooks.types import (
    ENABLED_EVENTS_MAX,
    OWN_EVENTS,
    STRIPE_EVENTS,
    UNSENT_EVENTS,
    check_events,
    check_patterns,
    unsent_of,
    wildcard_of,
)

LIVE, SANDBOX = Allowed.of(None, livemode=True), Allowed.of(None, livemode=False)


# --- types ------------------------------------------------------------------------------------------------------------


def test_every_type_that_the_code_announces_can_be_subscribed_to():
    """Whoever adds an event adds it here, or nobody could ever get it."""
    first = {type_.split(".")[0] for type_ in STRIPE_EVENTS | OWN_EVENTS}
    found = set()
    for room in ("payments", "orders", "api", "customers", "wallet", "webhooks"):
        for path in set((Path(guilder.__file__).parent / room).rglob("*.py")) - {Path(types.__file__)}:
            found |= {
                node.value for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split(".")[0] in first
                and node.value.count(".") >= 1 and not node.value.endswith("_") and all(part.replace("_", "").isalpha() for part in node.value.split("."))
            }  # fmt: skip
    # A field that can be expanded, and names of objects: no types.
    assert found - {"charge.refunds", "checkout.session", "terminal.location", "terminal.reader"} <= STRIPE_EVENTS | OWN_EVENTS
    assert "payment_intent.succeeded" in found
    announced = found | {"terminal.reader.action_failed", "terminal.reader.action_succeeded"}
    assert STRIPE_EVENTS - announced == UNSENT_EVENTS, "what begins to be sent is not told as missing any more"


def test_subscriptions_are_named_types_or_the_star():
    """Once each, in their order; a list longer than there are types cannot be."""
    assert check_events(["charge.failed", "*", "charge.failed"]) == ("charge.failed", "*")
    assert len(STRIPE_EVENTS | OWN_EVENTS) < ENABLED_EVENTS_MAX
    for wrong in ([], ["charge.*"], ["invoice.paid"], ["Charge.failed"], [""]):
        with pytest.raises(Refusal):
            check_events(wrong)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("payment_intent.suceeded", "payment_intent.succeeded"), ("Charge.Failed", "charge.failed"), ("charge.refund", "charge.refunded")],
)
def test_a_slip_of_the_pen_is_refused_with_the_type_that_is_meant(typed: str, meant: str):
    """For subscriptions and for filters alike."""
    for check in (check_events, check_patterns):
        with pytest.raises(Refusal, match=f"'{typed}' \\(did you mean '{meant}'"):
            check([typed])


def test_a_filter_is_refused_when_it_could_never_let_anything_through():
    """A `*` stands for any characters, and for none; what is wrong is named, and what is right is not."""
    check_patterns(["*", "charge.*", "payment_intent.succeeded*", "psp_breaker.opened", "payout.*"])
    with pytest.raises(Refusal, match=r"types: 'invoice\.\*', 'x\[a-z\]'\.") as refused:
        check_patterns(["charge.*", "invoice.*", "x[a-z]"])
    assert "charge.failed" not in str(refused.value)


def test_the_page_about_differences_names_each_type_that_nothing_sends_yet():
    """Whoever comes from Stripe looks there."""
    page = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
    section = page.partition("## Types of events")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`([a-z_]+\.[a-z_.]+)`", section.replace("`guilder.not_sent_yet`", ""))) == sorted(UNSENT_EVENTS)


def test_types_that_nothing_sends_yet_are_known_as_such():
    """Also by a pattern that stands for nothing else."""
    assert unsent_of(["*", "payout.paid", "charge.*", "charge.dispute.*", "charge.failed"]) == ("payout.paid", "charge.dispute.*")


def test_the_star_means_stripes_types_only():
    """Ours have to be named."""
    assert {wildcard_of(type_) for type_ in STRIPE_EVENTS} == {"*"}
    assert {wildcard_of(type_) for type_ in OWN_EVENTS} == {None}


# --- schedule ---------------------------------------------------------------------------------------------------------


POLICY = RETRIES["webhook"]


def test_the_schedule_spans_three_days_on_average():
    """Short waits first; a weekend is outlasted, and one bad event does not end an endpoint."""
    waits = [POLICY.wait(tries) for tries in range(1, POLICY.attempts_max)]
    assert waits == sorted(waits)
    assert waits[0] == 5
    mean = sum(waits) * 3 / 4 * SECOND
    assert 3 * DAY < mean < 3.5 * DAY
    assert POLICY.attempts_max < FAILURES_MIN


def test_a_budget_bounds_retries_and_never_first_tries():
    """Ten first tries earn one retry; without a budget there is no bound."""
    budget = Budget(0.1, ManualClock().boot, burst=1.0)
    assert in_budget(budget, 2)
    assert not in_budget(budget, 2)
    assert all(in_budget(budget, 1) for _ in range(11))
    assert in_budget(budget, 5)
    assert not in_budget(budget, 5)
    assert in_budget(None, 99)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999_999])
def test_each_wait_lies_within_its_jitter_and_the_last_try_has_none_after_it(draw: float):
    """What is drawn is handed in."""
    for tries in range(1, POLICY.attempts_max):
        due = next_due(POLICY, tries, Micros(1_000), lambda: draw, asked=0, began=Micros(0))
        assert due is not None
        assert due - 1_000 == pytest.approx(POLICY.wait(tries) * (1 + draw) / 2 * SECOND, abs=1)
    assert next_due(POLICY, POLICY.attempts_max, Micros(0), lambda: draw, asked=0, began=Micros(0)) is None


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (503, "120", 120), (429, " 7 ", 7), (429, "0", 0), (503, "Wed, 21 Oct 2026 07:28:30 GMT", 30), (503, "Wed, 21 Oct 2026 07:27:59 GMT", 0),
        (503, "86400", 3_600), (503, "9" * 5_000, 3_600), (503, "Wed, 21 Oct 2099 07:28:00 GMT", 3_600),
        (500, "120", 0), (301, "120", 0), (410, "120", 0),
        (503, None, 0), (503, "", 0), (503, "-5", 0), (503, "1.5", 0), (503, "soon", 0), (503, "\u0661", 0), (503, "31 Foo 9999999 99:99:99", 0),
    ],
)  # fmt: skip
def test_a_receiver_may_ask_for_a_wait_of_up_to_an_hour(status: int, header: str | None, seconds: int):
    """In seconds or by a date, with 429 and 503; what makes no sense is not asked for."""
    now = Micros(int(datetime(2026, 10, 21, 7, 28, tzinfo=UTC).timestamp()) * SECOND)
    assert asked_wait(status, header, now) == seconds * SECOND


def test_a_wait_that_was_asked_for_makes_the_schedule_longer_but_never_shorter_or_longer_than_three_days():
    """Whichever is later, of the schedule and the wish."""
    plain = replace(POLICY, jitter=Jitter.NONE)

    def due(tries: int, now: int, asked: int) -> int | None:
        return next_due(plain, tries, Micros(now), lambda: 0.5, asked=asked, began=Micros(0))

    assert due(1, 0, HOUR) == HOUR
    assert due(7, 0, HOUR) == POLICY.wait(7) * SECOND
    assert due(1, 3 * DAY - MINUTE, HOUR) == 3 * DAY
    assert due(1, 4 * DAY, HOUR) == 4 * DAY + POLICY.wait(1) * SECOND, "one that was sent again by hand, days later, keeps its schedule"
    assert due(POLICY.attempts_max, 0, HOUR) is None


@pytest.mark.parametrize(("status", "ok"), [(200, True), (204, True), (299, True), (199, False), (301, False), (400, False), (500, False)])
def test_any_2xx_is_a_success_and_nothing_else(status: int, ok: bool):
    """A redirect is a failure."""
    assert succeeded(status) is ok


# --- addresses --------------------------------------------------------------------------------------------------------

PUBLIC = ("8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "64:ff9b::808:808", "::ffff:8.8.8.8")
LOOPBACK = ("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1")
PRIVATE = ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1")
NEVER = (
    "0.0.0.0", "::", "169.254.169.254", "fe80::1", "fe80::1%eth0", "100.64.0.1", "100.100.100.200", "224.0.0.1", "ff02::1", "240.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "203.0.113.1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::", "::7f00:1", "fec0::1",
    "64:ff9b:1::1", "2001::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "no address", "",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_always_be_connected_to(address: str):
    """In both modes, also where they are written inside IPv6."""
    assert LIVE.refuses(address) is SANDBOX.refuses(address) is None


@pytest.mark.parametrize("address", [*LOOPBACK, *PRIVATE, *NEVER])
def test_nothing_else_may_in_live_mode(address: str):
    """Whatever is not public, in whatever clothes."""
    assert LIVE.refuses(address) is not None


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
def test_the_sandbox_may_reach_this_machine_and_no_further(address: str):
    """Loopback is where receivers are built."""
    assert SANDBOX.refuses(address) is not None


@pytest.mark.parametrize("address", LOOPBACK)
def test_the_sandbox_may_reach_this_machine(address: str):
    """In whatever clothes, since the same machine is meant."""
    assert SANDBOX.refuses(address) is None


def test_the_setting_allows_what_it_names_and_replaces_the_default():
    """Words and networks (what is no such thing is refused with the settings)."""
    private = Allowed.of(("private", "100.64.0.0/10"), livemode=True)
    assert private.refuses("10.1.2.3") is private.refuses("100.64.0.1") is None
    assert private.refuses("127.0.0.1") is not None
    assert not private.plain_http
    assert Allowed.of(("none",), livemode=False) == Allowed()
    assert Allowed.of(("http", "loopback"), livemode=True).plain_http


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1", "127.0.0.1."])
def test_an_ipv4_address_is_recognised_in_every_spelling(host: str):
    """As the C library reads it, because that is who resolves it."""
    assert numeric(host) == "127.0.0.1"
    with pytest.raises(Refusal):
        check_url(f"https://{host}/", LIVE)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com/hook", True), ("https://example.com:8443/hook?a=b", True), ("https://example.com:443/", True),
        ("https://8.8.8.8/", True), ("https://[2001:4860:4860::8888]/", True), ("https://bücher.example/", True),
        ("http://example.com/", False), ("https://", False), ("example.com/hook", False), ("ftp://example.com/", False),
        ("https://user@example.com/", False), ("https://user:pass@example.com/", False), ("https://@example.com/", False),
        ("https://example.com/#part", False), ("https://example.com:0/", True), ("https://example.com:99999/", False),
        ("https://example.com:22/", False), ("https://example.com:5432/", False), ("https://example.com:6379/", False),
        ("https://exa mple.com/", False), ("https://example.com\\@127.0.0.1/", False), ("https://example.com/\n", False),
        ("https://[::1]/", False), ("https://[fe80::1%25eth0]/", False), ("https://[::1", False), ("https://10.0.0.1/", False),
        (f"https://example.com/{'x' * 2048}", False),
    ],
)  # fmt: skip
def test_addresses_to_which_nothing_could_be_sent_are_refused_when_they_are_written(url: str, good: bool):
    """In live mode; names are looked at when they are connected to."""
    if good:
        check_url(url, LIVE)
        return
    with pytest.raises(Refusal) as refused:
        check_url(url, LIVE)
    assert (refused.value.facts.code, refused.value.facts.param) == ("url_invalid", "url")
