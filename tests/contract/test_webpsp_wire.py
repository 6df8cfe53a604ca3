"""What only the web PSP does: errors of HTTP, rate limits, keys, and the page at which a buyer enters his card."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from msgspec.structs import replace
from psp_subjects import WebpspSubject
from test_connector import CLOCK, Client, order, resend, shape, until, using

from guilder.breaker import BreakerState
from guilder.core.clock import SECOND
from guilder.core.outcome import ActionRequired, Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.psp import Operation, Order, OwnPage, query_about, reversal_of
from guilder.psp.connectors.webpsp.answers import outcome_of, shown
from guilder.psp.measure import Measures
from guilder.tuning import Breaking

BACK = "http://checkout/page/x/return"


@pytest.fixture(scope="module")
def psp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebpspSubject]:
    """The web PSP, running."""
    with WebpspSubject.running(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
async def client(psp: WebpspSubject) -> AsyncIterator[Client]:
    """A started connector."""
    async with using(psp) as started:
        yield started


@pytest.mark.parametrize("effect", [True, False])
async def test_a_proxys_error_page_is_unknown_whether_or_not_it_happened(
    psp: WebpspSubject, client: Client, effect: bool
) -> None:
    """502 in HTML comes from somebody in between."""
    purchase = order(Operation.PURCHASE)
    with psp.fault("error_page", purchase, operation="purchase", effect=effect):
        assert await client.result(purchase) == Unknown("psp_error")
    assert isinstance(await client.result(query_about(purchase)), Approved if effect else NotFound)


async def test_an_order_is_never_under_way_longer_than_the_total_timeout(psp: WebpspSubject) -> None:
    """However long one could wait for an answer alone."""
    purchase = order(Operation.PURCHASE)
    async with using(psp, answer_seconds=60, total_seconds=0.3) as client:
        with psp.fault("lost_answer", purchase, operation="purchase"):
            assert await client.result(purchase) == Unknown("timeout")


async def test_what_the_psp_takes_is_measured_and_each_operation_has_a_breaker_of_its_own(psp: WebpspSubject) -> None:
    """An open breaker of purchases stops neither authorizations nor questions."""
    measures = Measures("webpsp")
    answered, lost = order(Operation.PURCHASE), order(Operation.PURCHASE)
    limits = {"answer_seconds": 1.0, "breaker": Breaking(failures_min=1, cool_down_seconds=60)}
    async with using(psp, measures=measures, **limits) as client:
        assert isinstance(await client.result(answered), Approved)
        with psp.fault("lost_answer", lost, operation="purchase"):
            assert await client.result(lost) == Unknown("timeout")
        watch = measures.watches[Operation.PURCHASE]
        assert watch.outcomes == {"approved": 1, "timeout": 1}
        assert (watch.read.answered, watch.read.unanswered, measures.connecting.answered) == (1, 1, 1)
        assert (watch.breaker.state, measures.is_up(Operation.PURCHASE, asyncio.get_running_loop().time())) == (BreakerState.OPEN, False)
        assert await client.result(order(Operation.PURCHASE)) == NotSent("breaker_open")
        assert isinstance(await client.result(query_about(lost)), Approved)
        assert isinstance(await client.result(order(Operation.AUTHORIZE)), Approved)
        assert {lane: (count(), most) for lane, (count, most) in measures.in_flight.items()} == {"payments": (0, 2_000), "recovery": (0, 1_000)}


async def test_half_a_document_is_unknown(psp: WebpspSubject, client: Client) -> None:
    """However much of it says "approved"."""
    purchase = order(Operation.PURCHASE)
    with psp.fault("truncated", purchase, operation="purchase"):
        assert await client.result(purchase) == Unknown("unreadable")
    assert isinstance(await client.result(query_about(purchase)), Approved)


async def test_after_429_the_same_request_is_sent_again_when_the_psp_says(psp: WebpspSubject, client: Client) -> None:
    """Under its key, while somebody waits; it has one effect."""
    purchase = order(Operation.PURCHASE)
    with psp.fault("rate_limited", purchase, operation="purchase", count=1):
        assert isinstance(await client.result(purchase), Approved)
    assert len(psp.truth(purchase)) == 2


async def test_429_for_longer_than_anybody_waits_is_unknown(psp: WebpspSubject) -> None:
    """A byte had left, so it is not "not sent"."""
    purchase = order(Operation.PURCHASE)
    async with using(psp, answer_seconds=0.3) as client:
        with psp.fault("rate_limited", purchase, operation="purchase"):
            assert await client.result(purchase) == Unknown("timeout")
    assert psp.truth(purchase) == []


async def test_requests_that_are_never_answered_leave_connections_for_others(psp: WebpspSubject) -> None:
    """However many hang, and whether they are payments or questions: once the PSP answers again, the next one is answered at once."""
    limits = {"answer_seconds": 1.0, "queue_seconds": 3.0, "connections_max": 2, "recovery_connections_max": 2}
    async with using(psp, **limits) as client:
        for make in (lambda: order(Operation.PURCHASE), lambda: query_about(order(Operation.PURCHASE))):
            hanging = [make() for _ in range(2)]
            with ExitStack() as faults:
                for one in hanging:
                    faults.enter_context(psp.fault("lost_answer", one))
                assert await client.results(*hanging) == [Unknown("timeout")] * 2
            assert isinstance(await client.result(make()), Approved | NotFound)


async def test_nothing_is_kept_of_a_request_whose_connection_ends_after_its_time(psp: WebpspSubject) -> None:
    """Or the memory of a process would grow with every outage."""
    purchase = order(Operation.PURCHASE)
    async with using(psp, answer_seconds=0.2, silence_seconds=0.4) as client:
        with psp.fault("lost_answer", purchase):
            assert await client.result(purchase) == Unknown("timeout")
        assert client.connector._late, "its answer may still come"
        await until(lambda: not client.connector._late)


async def test_a_card_payments_answer_that_names_a_page_is_unknown() -> None:
    """Nobody has asked for one: it is no answer to this request, nor to the question about it."""
    purchase = order(Operation.PURCHASE)
    document = {
        "kind": "purchase", "reference": purchase.reference, "status": "action_required", "amount": 1050, "currency": "eur",
        "page": {"url": "https://psp/pay"},
    }  # fmt: skip
    for asked in (purchase, query_about(purchase)):
        assert outcome_of(asked, 200, json.dumps(document).encode()) == Unknown("psp_error")


async def test_a_stale_answer_to_a_question_says_nothing(psp: WebpspSubject, client: Client) -> None:
    """An old replica is still at it; the next question finds the truth."""
    purchase = order(Operation.PURCHASE)
    await client.result(purchase)
    with psp.fault("stale", purchase):
        assert await client.result(query_about(purchase)) == Unknown("in_progress")
    assert isinstance(await client.result(query_about(purchase)), Approved)


async def test_a_key_that_comes_with_other_money_is_refused(psp: WebpspSubject, client: Client) -> None:
    """Nothing definite: something stands under this key, and it is not this."""
    purchase = order(Operation.PURCHASE)
    await client.result(purchase)
    other = replace(resend(purchase), amount_minor=purchase.amount_minor + 1)
    assert await client.result(other) == Unknown("psp_error")
    assert len(psp.truth(purchase)) == 2


async def test_a_reference_that_comes_with_another_key_is_refused(psp: WebpspSubject, client: Client) -> None:
    """Also where the reference is that of a page."""
    purchase, page = order(Operation.PURCHASE), page_order()
    await client.results(purchase, page)
    for used in (purchase, page):
        again = replace(order(Operation.PURCHASE), reference=used.reference)
        assert await client.result(again) == Unknown("psp_error")
    assert len(psp.truth(purchase)) == 2


async def test_a_wrong_api_key_is_told_and_nothing_happens(psp: WebpspSubject) -> None:
    """401 is nothing definite about an operation, but nothing has happened."""
    status, document = psp.call("POST", "/web/v1/payments", {}, {"Authorization": "Bearer wrong", "Idempotency-Key": "k"})
    assert (status, document["error"]["code"]) == (401, "unauthorized")


async def test_after_a_restart_keys_and_pages_are_known(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The window is the file's, not the process's."""
    folder = tmp_path_factory.mktemp("again")
    purchase, page = order(Operation.PURCHASE), page_order()
    with WebpspSubject.running(folder) as before:
        async with using(before) as client:
            paid, opened = await client.results(purchase, page)
    with WebpspSubject.running(folder) as after:
        async with using(after) as client:
            assert await client.result(resend(purchase)) == paid
            assert isinstance(await client.result(replace(resend(purchase), amount_minor=1)), Unknown)
            again = await client.result(resend(page))
            assert urlsplit(address(again)).path == urlsplit(address(opened)).path
            assert len(after.truth(purchase)) == 2


async def test_a_key_that_is_not_honoured_does_a_refund_twice_and_the_psp_tells_whoever_asks(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """The second one has a name of the PSP's own; its keys and what was done are the same after a restart."""
    folder = tmp_path_factory.mktemp("ignored")
    purchase = order(Operation.PURCHASE)
    refund = order(Operation.REFUND, of=purchase, amount_minor=400)
    with WebpspSubject.running(folder) as before:
        async with using(before) as client:
            with before.fault("key_ignored", refund):
                assert isinstance(await client.result(purchase), Approved)
                done = await client.result(refund)
                assert isinstance(done, Approved) and shape(before.truth(refund)) == [("refund", 400, "eur")]
                assert isinstance(await client.result(resend(refund)), Approved)
            assert shape(before.truth(refund)) == [("refund", 400, "eur")] * 2
    with WebpspSubject.running(folder) as after:
        async with using(after) as client:
            assert await client.result(query_about(refund)) == replace(done, surplus=1)
            assert await client.result(resend(refund)) == done
            assert len(after.truth(refund)) == 2


@pytest.mark.parametrize("operation", [Operation.CAPTURE, Operation.REFUND])
async def test_a_key_that_is_not_honoured_declines_what_cannot_be_done_twice(
    psp: WebpspSubject, client: Client, operation: Operation
) -> None:
    """Of the first request that says nothing: the query knows it as done, and as done once."""
    made = order(Operation.AUTHORIZE if operation is Operation.CAPTURE else Operation.PURCHASE)
    asked = order(operation, of=made)
    assert isinstance(await client.result(made), Approved)
    with psp.fault("key_ignored", asked):
        done = await client.result(asked)
        assert isinstance(await client.result(resend(asked)), Declined)
    assert await client.result(query_about(asked)) == done
    assert len(psp.truth(asked)) == 1


# --- start_page -----------------------------------------------------------------------------------------------------


def page_order(operation: Operation = Operation.PURCHASE, *, seconds: int = 900, **changes: Any) -> Order:
    """The order for a page at which 10.50 EUR are paid."""
    own_page = OwnPage(BACK, CLOCK.now() + seconds * SECOND)
    return replace(order(operation, **changes), payment_method_id=None, send_cvc=False, own_page=own_page)


def address(outcome: Outcome | NotFound) -> str:
    """Where the buyer is to go."""
    assert isinstance(outcome, ActionRequired)
    return outcome.url


def browse(url: str, **form: str) -> tuple[int, str, str]:
    """What a buyer's browser gets: status, where it is sent, and the page. With a form it is filled in."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=10)
    try:
        connection.request("POST" if form else "GET", parts.path, urlencode(form) if form else None)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location") or "", answer.read().decode()
    finally:
        connection.close()


def pay(url: str, number: str = "4242 4242 4242 4242") -> tuple[int, str, str]:
    """Enter a card."""
    return browse(url, number=number, expiry="12/40", cvc="123", answer="pay")


@pytest.mark.parametrize(("operation", "effects"), [
    (Operation.PURCHASE, ["authorization", "capture"]), (Operation.AUTHORIZE, ["authorization"])
])  # fmt: skip
async def test_a_buyer_pays_at_the_psps_page(
    psp: WebpspSubject, client: Client, operation: Operation, effects: list[str]
) -> None:
    """Until he has, his action is required; then the query finds it under the same reference."""
    asked = page_order(operation)
    url = address(await client.result(asked))
    assert address(await client.result(query_about(asked))) == url
    assert psp.truth(asked) == []
    status, _, page = await asyncio.to_thread(browse, url)
    assert status == 200 and "10.50 EUR" in page
    assert await asyncio.to_thread(pay, url) == (303, BACK, "")
    assert isinstance(await client.result(query_about(asked)), Approved)
    assert shape(psp.truth(asked)) == [(kind, 1050, "eur") for kind in effects]
    assert (await asyncio.to_thread(pay, url))[0] == 409
    assert len(psp.truth(asked)) == len(effects)


async def test_the_same_page_order_again_is_the_same_page(client: Client) -> None:
    """Under its key; that is how one whose answer was lost gets its address."""
    asked = page_order()
    first = await client.result(asked)
    assert await client.result(resend(asked)) == first


async def test_neither_the_pages_address_nor_the_way_back_is_in_what_is_kept_of_the_exchange(client: Client) -> None:
    """Whoever knows one of them may walk it. The rest of both messages is there, for people."""
    asked = page_order()
    opened = await client.result(asked)
    assert isinstance(opened, ActionRequired)
    assert await client.result(query_about(asked)) == opened
    address = urlsplit(opened.url)
    texts = [exchange.text for exchange in client.exchanges]
    assert len(texts) == 4
    for secret in (opened.url, address.path, address.path.rpartition("/")[2], BACK):
        assert not any(secret in text for text in texts)
    assert all(asked.reference in text for text in texts)
    assert "action_required" in texts[1]


@pytest.mark.parametrize("body", [
    b'{"status": "approved", "page": {"url": "https:\\/\\/psp\\/pay\\/token", "token": "token", "expires_at": 12}}',
    b'{"status": "approved", "page": "token"}', b'{"status": "approved", "more": ["see https://psp/pay/token"]}',
    b'{"status": "approved", "page": {"url": "https:\\/\\/psp\\/pay\\/token', b"approved: <a href='http://psp/pay/token'>",
])  # fmt: skip
def test_whatever_holds_an_address_is_shown_without_it(body: bytes) -> None:
    """Escaped, in a field that nobody has heard of, in a document that breaks off, in a page of HTML."""
    text = shown(200, body)
    assert "token" not in text.replace('"token":"***"', "")
    assert text.startswith("200 ")
    assert "approved" in text


async def test_what_was_paid_at_a_page_is_captured_and_refunded_like_anything_else(psp: WebpspSubject, client: Client) -> None:
    """By the reference of the page."""
    held = page_order(Operation.AUTHORIZE)
    await asyncio.to_thread(pay, address(await client.result(held)))
    capture = order(Operation.CAPTURE, of=held, amount_minor=1000)
    refund = order(Operation.REFUND, of=capture, amount_minor=400)
    assert isinstance(await client.result(capture), Approved)
    assert isinstance(await client.result(refund), Approved)
    assert shape(psp.truth(refund)) == [("refund", 400, "eur")]


async def test_a_buyer_who_gives_up_is_found_declined(client: Client) -> None:
    """And sent back; nobody can pay there any more."""
    asked = page_order()
    url = address(await client.result(asked))
    assert (await asyncio.to_thread(browse, url, answer="cancel"))[:2] == (303, BACK)
    found = await client.result(query_about(asked))
    assert isinstance(found, Declined) and found.code == "page_canceled"
    assert (await asyncio.to_thread(pay, url))[0] == 409


async def test_a_declined_card_may_be_followed_by_another_one(psp: WebpspSubject, client: Client) -> None:
    """Three times; then the page ends."""
    asked, hopeless = page_order(), page_order()
    url, other = address(await client.result(asked)), address(await client.result(hopeless))
    assert (await asyncio.to_thread(pay, url, "4000000000000002"))[0] == 402
    assert isinstance(await client.result(query_about(asked)), ActionRequired)
    assert (await asyncio.to_thread(pay, url))[0] == 303
    statuses = [(await asyncio.to_thread(pay, other, "4000000000009995"))[0] for _ in range(3)]
    assert statuses == [402, 402, 303]
    found = await client.result(query_about(hopeless))
    assert isinstance(found, Declined) and found.code == "page_declined"
    assert psp.truth(hopeless) == []


async def test_a_page_past_its_time_takes_no_money(psp: WebpspSubject, client: Client) -> None:
    """It is declined as expired, for the buyer and for who asks."""
    asked = page_order(seconds=0)
    found = await client.result(asked)
    assert isinstance(found, Declined) and found.code == "page_expired"
    assert psp.truth(asked) == []


async def test_a_reversed_page_takes_no_money(psp: WebpspSubject, client: Client) -> None:
    """Before it is paid, after it, and before it is opened."""
    unpaid, paid, unopened = page_order(), page_order(), page_order()
    url, other = address(await client.result(unpaid)), address(await client.result(paid))
    await asyncio.to_thread(pay, other)
    for one in (unpaid, paid, unopened):
        assert isinstance(await client.result(reversal_of(one)), Approved)
        assert isinstance(await client.result(resend(one) if one is unopened else query_about(one)), Declined)
    assert (await asyncio.to_thread(pay, url))[0] == 409
    assert psp.truth(unpaid) == psp.truth(unopened) == []
    assert {effect.reversed for effect in psp.truth(reversal_of(paid))} == {"authorization", "capture"}


async def test_an_address_that_was_never_given_out_is_none(client: Client) -> None:
    """Whoever knows a reference does not know its page."""
    asked = page_order()
    url = address(await client.result(asked))
    assert (await asyncio.to_thread(browse, url[:-1] + ("0" if url[-1] != "0" else "1")))[0] == 404


async def test_a_lost_answer_to_a_page_order_is_asked_about(psp: WebpspSubject) -> None:
    """The page is there, and the query tells its address."""
    asked = page_order()
    async with using(psp, answer_seconds=0.2) as hasty, using(psp) as client:
        with psp.fault("lost_answer", asked, operation="purchase") as has_hit:
            assert await hasty.result(asked) == Unknown("timeout")
            await until(has_hit)
        assert isinstance(await client.result(query_about(asked)), ActionRequired)


def test_documents_of_the_psp_name_no_card(psp: WebpspSubject) -> None:
    """What cannot be read is refused by name of the field, and never repeated."""
    headers = {"Authorization": f"Bearer {psp.API_KEY}", "Idempotency-Key": "unreadable"}
    card = {"number": "4242424242424242X", "exp_month": 1, "exp_year": 2040}
    status, document = psp.call(
        "POST", "/web/v1/payments", {"reference": "AAAAAAAAAAAA", "amount": 1, "currency": "eur", "card": card}, headers
    )
    assert status == 400
    assert "card.number" in document["error"]["message"]
    assert "4242424242424242" not in json.dumps(document)
