"""SIGKILL of `checkout` in every step of an order: the buyer looks again, tries again if need be, and is charged once."""

import http.client
from collections.abc import Iterator

import pytest
from buyer import Seen, asked, charges_of, events_of, fetch, filled, session_of
from payments_system import Shop, running_shop, wait

pytestmark = pytest.mark.slow

# Around the commits of one order, in their order: the payment's making, the accept, the session's completion.
POINTS = (
    "session.before open", "session.after open", "accept.before purchase", "accept.after purchase", "session.before complete",
    "session.after complete",
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


@pytest.mark.parametrize("point", POINTS)
def test_an_order_survives_the_death_of_its_page(shop: Shop, point: str) -> None:
    """Whatever step it died in: looking again shows how things stand, and in the end the order is paid once and told once."""
    session = asked(shop)
    form = filled(fetch(session["url"]))
    shop.crash_at(point)
    look(session["url"], form)
    wait(shop.crashed, "the process is dead")

    def paid() -> bool:
        seen = look(session["url"])
        if seen is not None and seen.fields:
            look(session["url"], filled(seen))
        return seen is not None and seen.title == "Payment complete"

    wait(paid, "the order is paid")
    # The form that was under way when it died, once more.
    look(session["url"], form)
    wait(lambda: session_of(shop, session["id"])["status"] == "complete", "the session is complete")
    assert charges_of(shop, session["id"]) == ["succeeded"]
    assert events_of(shop, session["id"]) == ["checkout.session.completed"]
    shop.audit(session_of(shop, session["id"])["payment_intent"]["id"])
