"""What the page shows when the issuer wants to see the buyer: the way there, the way back, and another card."""

import pytest
from msgspec.structs import replace
from orders_world import KEYS, orders_on, placed, standing, tried

from conftest import ACCOUNT
from guilder.challenge import ChallengeWay, PageWay
from guilder.checkout import Page, Services
from guilder.core.clock import DAY
from guilder.core.errors import Refusal
from guilder.customers import Customers
from guilder.http_server import Incoming
from guilder.merchants import Merchants
from guilder.metrics import Metrics
from guilder.orders import attend_sessions
from guilder.orders.expire import expire
from guilder.payments.model import pack
from guilder.risk import Velocity

CHALLENGE = "http://pay.example/challenge/ch_1"


async def page_on(world, services):
    """The page's application over the orders room."""
    merchants = Merchants(world.db, KEYS, world.clock, world.ids)
    await merchants.create(name="Test Shop", account=ACCOUNT)
    known = Services(
        orders=services, customers=Customers(world.db, None, services.personal, KEYS, world.clock, world.ids), merchants=merchants,
        velocity=Velocity(world.clock), keys=KEYS, clock=world.clock, ids=world.ids, proxies=0,
    )  # fmt: skip
    return Page(known, ChallengeWay(world.services), PageWay(world.services))


@pytest.fixture
async def page(world):
    """The page over the orders room, and a session whose payment waits for the buyer at the issuer."""
    services = orders_on(world)
    app = await page_on(world, services)
    session = await placed(services, world)
    facts = await world.payment(session.facts.payment_intent)
    assert facts.return_url == f"{session.facts.url}?step=next"
    waiting = replace(facts, status="requires_action", next_action_url=CHALLENGE)
    await world.db.execute("UPDATE payment SET state = 'requires_action', facts = $2 WHERE id = $1", facts.id, pack(waiting))

    async def look(query: str = "") -> str:
        answer = await app.answer(Incoming("GET", f"/c/{session.facts.id}", query.encode(), {}))
        assert answer.status == 200
        return answer.body.decode()

    return services, session, look


async def test_a_buyer_on_the_way_is_taken_to_the_bank(page):
    """By the script at once, without one by an address to follow; there is a link for whoever stays."""
    _, _, look = page
    html = await look("step=0")
    assert f'data-url="{CHALLENGE}" data-wait="0"' in html
    assert f'http-equiv="refresh" content="0;url={CHALLENGE}"' in html
    assert f'<a class="pay" href="{CHALLENGE}">' in html


async def test_a_buyer_who_goes_back_is_not_driven_away_again(page):
    """They find the way to the bank, and the form for another card."""
    _, session, look = page
    for earlier in ("", "step=1", "step=next"):
        html = await look(earlier)
        assert "data-url" not in html and "http-equiv" not in html
    assert f'/c/{session.facts.id}?card=other' in html
    assert 'name="number"' not in html
    assert 'name="number"' in await look("card=other")


async def test_another_card_may_be_tried_while_the_bank_waits(world, page):
    """The same payment, its next number; the order is paid."""
    services, session, look = page
    await tried(services, world, session)
    assert (await standing(services, session)).payment.facts.status == "succeeded"
    for query, goes_on in {"step=1": True, "step=next&redirect_status=succeeded": True, "": False, "step=0": False,
                           "step=next&redirect_status=failed": False}.items():  # fmt: skip
        html = await look(query)
        assert "Payment complete" in html
        assert ('data-url="https://shop.example"' in html) is goes_on


@pytest.mark.parametrize("by", ["merchant", "time"])
async def test_a_session_ends_while_the_bank_waits(world, page, by):
    """A waiting buyer holds no slot: the payment is canceled with its session, and leads nowhere any more."""
    services, session, look = page
    if by == "merchant":
        await expire(services, world.claim(), session.facts.id)
    else:
        world.clock.advance(DAY)
        await attend_sessions(services)
    now = await standing(services, session)
    assert (now.session.facts.status, now.payment.facts.status, now.payment.facts.next_action_url) == ("expired", "canceled", None)
    assert "This page has expired" in await look("step=next")


async def test_the_pages_answers_are_counted_by_status(world):
    """What went wrong on our side above all, and what was no request at all."""
    services = orders_on(world)
    app, metrics = await page_on(world, services), Metrics("checkout")
    app.answered.expose(metrics)
    session = await placed(services, world)
    for path in (f"/c/{session.facts.id}", "/c/cs_nobody", "/nowhere"):
        await app.answer(Incoming("GET", path, b"", {}))
    app.refuse(Refusal("no request", status=400))
    await world.db.close()
    assert (await app.answer(Incoming("GET", f"/c/{session.facts.id}", b"", {}))).status == 503
    told = [line for line in metrics.text().decode().splitlines() if line.startswith("guilder_http_requests_total")]
    assert sorted(told) == [f'guilder_http_requests_total{{status="{status}"}} {count}.0' for status, count in ((200, 1), (400, 1), (404, 2), (503, 1))]
