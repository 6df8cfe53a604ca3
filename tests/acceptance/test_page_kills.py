"""SIGKILL in every step of an order, with a challenge and without: the buyer looks again, tries again if need be, is charged once."""

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from buyer import CHALLENGED, asked, at_bank, charges_of, come_back, events_of, fetch, session_of
from payments_system import Shop, running_shop, wait

from payment_page import Seen, filled

pytestmark = pytest.mark.slow

# Around the commits of one order, in their order: the payment's making, the accept, the session's completion.
POINTS = (
    "session.before open", "session.after open", "accept.before purchase", "accept.after purchase", "session.before complete",
    "session.after complete",
)  # fmt: skip


# Around the commits of a challenge: opened, the issuer asked what came of it, ended.
CHALLENGE_POINTS = (
    "challenge.before open", "challenge.after open", "reopen.before", "reopen.after", "challenge.before passed", "challenge.after passed",
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system for all of these deaths."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def look(url: str, form: dict[str, str] | None = None) -> Seen | None:
    """A request; None when nobody answers."""
    try:
        return fetch(url, form)
    except (OSError, http.client.HTTPException):
        return None


def challenge_of(shop: Shop, session: dict[str, Any]) -> str:
    """Where the session's buyer is sent, as soon as the issuer wants to see him."""

    def address() -> str | None:
        payment = session_of(shop, session["id"])["payment_intent"]
        action = payment and payment["next_action"]
        return action and action["redirect_to_url"]["url"]

    return wait(address, "the bank asks for the buyer")


def ends_paid_once(shop: Shop, session: dict[str, Any], form: dict[str, str]) -> None:
    """The buyer looks and does what the page asks for, until it is paid; an old form changes nothing; told once."""

    def paid() -> bool:
        seen = look(session["url"])
        if seen is not None and seen.fields:
            look(session["url"], filled(seen))
        if seen is not None and seen.bank:
            come_back(at_bank(seen.bank))
        return seen is not None and seen.title == "Payment complete"

    wait(paid, "the order is paid")
    look(session["url"], form)
    wait(lambda: session_of(shop, session["id"])["status"] == "complete", "the session is complete")
    assert charges_of(shop, session["id"]).count("succeeded") == 1
    assert events_of(shop, session["id"]) == ["checkout.session.completed"]
    shop.audit(session_of(shop, session["id"])["payment_intent"]["id"])


@pytest.mark.parametrize("point", POINTS)
def test_an_order_survives_the_death_of_its_page(shop: Shop, point: str) -> None:
    """Whatever step it died in: looking again shows how things stand, and in the end the order is paid once and told once."""
    session = asked(shop)
    form = filled(fetch(session["url"]))
    shop.crash_at(point)
    look(session["url"], form)
    wait(shop.crashed, "the process is dead")

    # The form that was under way when it died goes once more, too.
    ends_paid_once(shop, session, form)


@pytest.mark.parametrize("point", CHALLENGE_POINTS)
def test_a_challenged_order_survives_whoever_dies_over_its_challenge(shop: Shop, point: str) -> None:
    """The page that has the issuer asked, the executor that opens and ends the challenge: the buyer's one answer counts."""
    session = asked(shop)
    form = filled(fetch(session["url"]), CHALLENGED)
    shop.crash_at(point)
    look(session["url"], form)
    come_back(at_bank(challenge_of(shop, session)))
    wait(shop.crashed, "the process is dead")
    ends_paid_once(shop, session, form)


@pytest.mark.parametrize("moment", ["form", "bank", "return"])
@pytest.mark.parametrize("role", ["checkout", "worker", "network"])
def test_a_challenged_order_survives_the_death_of(shop: Shop, role: str, moment: str) -> None:
    """While the form is taken, while the buyer is at the bank, while he comes back."""
    session = asked(shop)
    form = filled(fetch(session["url"]), CHALLENGED)
    with ThreadPoolExecutor(1) as beside:
        sent = beside.submit(look, session["url"], form)
        if moment == "form":
            shop.kill(role)
        sent.result()
        if moment != "form":
            back = challenge_of(shop, session)
            if moment == "bank":
                shop.kill(role)
            back = at_bank(back)
            returned = beside.submit(come_back, back)
            if moment == "return":
                shop.kill(role)
            returned.result()
    ends_paid_once(shop, session, form)


@pytest.mark.parametrize("point", ["challenge.before abandoned", "challenge.after abandoned"])
def test_a_challenge_is_given_up_although_the_worker_dies_over_it(shop: Shop, point: str) -> None:
    """Once; then another card pays."""
    session = asked(shop)
    form = filled(fetch(session["url"]), CHALLENGED)
    look(session["url"], form)
    shop.crash_at(point)
    assert shop.command("clock", "advance", "16m").returncode == 0
    wait(shop.crashed, "the worker is dead")
    wait(lambda: session_of(shop, session["id"])["payment_intent"]["status"] == "requires_payment_method", "it is given up")
    told = shop.get("/v1/events?type=payment_intent.payment_failed&limit=10")["data"]
    payment = session_of(shop, session["id"])["payment_intent"]["id"]
    assert [event["data"]["object"]["id"] for event in told].count(payment) == 1
    ends_paid_once(shop, session, form)


@pytest.mark.parametrize("point", ["session.before expired", "session.after expired"])
def test_a_session_expires_although_the_worker_dies_over_it(shop: Shop, point: str) -> None:
    """With the challenge that was open, and its payment; told once."""
    session = asked(shop)
    look(session["url"], filled(fetch(session["url"]), CHALLENGED))
    shop.crash_at(point)
    assert shop.command("clock", "advance", "25h").returncode == 0
    wait(shop.crashed, "the worker is dead")
    wait(lambda: session_of(shop, session["id"])["status"] == "expired", "the session has expired")
    assert session_of(shop, session["id"])["payment_intent"]["status"] == "canceled"
    assert events_of(shop, session["id"]) == ["checkout.session.expired"]
