"""What every connector must do, tried over its real counterpart in a process of its own; the truth is read there.

A new connector joins by a Subject in SUBJECTS. What a connector declares that it cannot do is skipped for it by name.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from psp_subjects import CardnetSubject, Effect, Subject, WebpspSubject

from guilder.core.clock import SECOND, SystemClock
from guilder.core.ids import Ids
from guilder.core.outcome import ActionRequired, Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.psp import (
    Connector,
    ContractClass,
    Direction,
    Exchange,
    Operation,
    Order,
    draw_wire,
    original_of,
    query_about,
    reversal_of,
)

SUBJECTS: dict[str, type[Subject]] = {"cardnet": CardnetSubject, "webpsp": WebpspSubject}

CLOCK = SystemClock()
IDS = Ids(CLOCK)


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A connector's counterpart, running; healthy again after each use of `fault`."""
    with SUBJECTS[request.param].running(tmp_path_factory.mktemp("psp")) as running:
        yield running


class Client:
    """A connector, whatever it has delivered, and the orders that can be made with it."""

    def __init__(self, subject: Subject, **limits: Any) -> None:
        self.delivered: list[tuple[Order, Outcome | NotFound]] = []
        self.late: list[tuple[Order, Outcome | NotFound]] = []
        self.exchanges: list[Exchange] = []
        self.allowed = True
        self.connector: Connector = subject.connector(
            late=lambda order, outcome: self.late.append((order, outcome)), recorder=self.exchanges.append, **limits
        )

    async def result(self, order: Order) -> Outcome | NotFound:
        """Submit one order and wait for its result."""
        return (await self.results(order))[0]

    async def results(self, *orders: Order) -> list[Outcome | NotFound]:
        """Submit orders and wait for all results; in the orders' order."""
        before = len(self.delivered)
        self.connector.submit(orders, lambda _: self.allowed, lambda order, outcome: self.delivered.append((order, outcome)))
        assert len(self.delivered) == before, "nothing may be delivered before submit has returned"
        await until(lambda: len(self.delivered) == before + len(orders))
        outcomes = {id(order): outcome for order, outcome in self.delivered[before:]}
        return [outcomes[id(order)] for order in orders]


@asynccontextmanager
async def using(subject: Subject, **limits: Any) -> AsyncIterator[Client]:
    """A started connector."""
    client = Client(subject, **limits)
    await client.connector.start()
    try:
        yield client
    finally:
        await client.connector.close()


@pytest.fixture
async def client(subject: Subject) -> AsyncIterator[Client]:
    """A started connector with its usual limits."""
    async with using(subject) as started:
        yield started


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come true within ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def order(operation: Operation, *, card: str = "good", of: Order | None = None, **changes: Any) -> Order:
    """A new attempt's first order for 10.50 EUR, with wire fields of its own; `of` is what it acts on."""
    wire = draw_wire(IDS, CLOCK.now())
    with_card = operation in (Operation.AUTHORIZE, Operation.PURCHASE)
    fields: dict[str, Any] = {
        "attempt_id": IDS.new("att"), "operation": operation, "first": True, "account": "acct_1", "livemode": False,
        "psp_merchant": "GUILDER00000001", "amount_minor": 1050, "currency": "eur", "psp_key": wire.psp_key,
        "reference": wire.reference, "transmitted_at": wire.transmitted_at, "stan": wire.stan,
        "original": None if of is None else original_of(of), "payment_method_id": f"pm_{card}" if with_card else None,
        "send_cvc": with_card, "descriptor": "GUILDER TEST",
    }  # fmt: skip
    return Order(**(fields | changes))


def resend(sent: Order) -> Order:
    """The same request once more, by whoever took the attempt over."""
    return Order(**{name: getattr(sent, name) for name in Order.__struct_fields__} | {"first": False})


def shape(effects: list[Effect]) -> list[tuple[str, int, str]]:
    """Effects as (kind, amount, currency), in order."""
    return [(effect.kind, effect.amount, effect.currency) for effect in effects]


async def test_a_deadline_travels_with_its_order(subject: Subject, client: Client) -> None:
    """Past it no first byte is written; what may have been sent before is not stopped by it."""
    late, in_time, again = (order(Operation.PURCHASE, send_by=CLOCK.now() + wait * SECOND) for wait in (0, 60, 0))
    outcomes = await client.results(late, in_time, resend(again))
    assert [type(outcome) for outcome in outcomes] == [NotSent, Approved, Approved]
    assert outcomes[0] == NotSent("expired")
    assert subject.truth(late) == []


async def test_a_purchase_is_approved_and_moves_the_money_once(subject: Subject, client: Client) -> None:
    """One request, authorization and capture together."""
    purchase = order(Operation.PURCHASE)
    outcome = await client.result(purchase)
    assert isinstance(outcome, Approved)
    assert outcome.psp_reference
    assert outcome.checks.cvc == "pass"
    assert shape(subject.truth(purchase)) == [("authorization", 1050, "eur"), ("capture", 1050, "eur")]


@pytest.mark.parametrize(("currency", "amount"), [("jpy", 500), ("eur", 1), ("kwd", 1_500)])
async def test_money_arrives_in_the_currencys_own_minor_units(
    subject: Subject, client: Client, currency: str, amount: int
) -> None:
    """None, two and three decimals."""
    purchase = order(Operation.PURCHASE, currency=currency, amount_minor=amount)
    assert isinstance(await client.result(purchase), Approved)
    assert shape(subject.truth(purchase))[-1] == ("capture", amount, currency)


async def test_funds_that_are_available_at_once_say_so(client: Client) -> None:
    """The bypassPending card."""
    outcome = await client.result(order(Operation.PURCHASE, card="available_at_once"))
    assert isinstance(outcome, Approved)
    assert outcome.available_now


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("declined", "generic_decline"),
        ("insufficient_funds", "insufficient_funds"),
        ("lost", "lost_card"),
        ("stolen", "stolen_card"),
        ("expired", "expired_card"),
        ("incorrect_cvc", "incorrect_cvc"),
        ("processing_error", "processing_error"),
        ("velocity", "card_velocity_exceeded"),
        ("no_such_card", "incorrect_number"),
    ],
)
@pytest.mark.parametrize("operation", [Operation.PURCHASE, Operation.AUTHORIZE])
async def test_a_decline_has_our_code_and_no_effect(
    subject: Subject, client: Client, operation: Operation, card: str, code: str
) -> None:
    """Every decline of the sandbox's cards; the issuer's own code is kept beside ours."""
    declined = order(operation, card=card)
    outcome = await client.result(declined)
    assert isinstance(outcome, Declined)
    assert outcome.code == code
    assert outcome.network_code
    assert subject.truth(declined) == []


async def test_failed_checks_are_reported_with_the_approval(client: Client) -> None:
    """The issuer approves all the same; what follows from it is the risk rules' business."""
    cvc, postal_code = await client.results(
        order(Operation.PURCHASE, card="cvc_fails"), order(Operation.PURCHASE, card="postal_code_fails")
    )
    assert isinstance(cvc, Approved)
    assert isinstance(postal_code, Approved)
    assert (cvc.checks.cvc, postal_code.checks.postal_code) == ("fail", "fail")


@pytest.mark.parametrize("captured", [1050, 400])
async def test_an_authorization_is_captured_whole_or_in_part(subject: Subject, client: Client, captured: int) -> None:
    """The hold moves nothing; the capture moves its amount."""
    hold = order(Operation.AUTHORIZE)
    assert isinstance(await client.result(hold), Approved)
    assert shape(subject.truth(hold)) == [("authorization", 1050, "eur")]
    capture = order(Operation.CAPTURE, of=hold, amount_minor=captured)
    assert isinstance(await client.result(capture), Approved)
    assert shape(subject.truth(capture)) == [("capture", captured, "eur")]
    assert subject.truth(capture)[0].original == hold.reference


async def test_a_capture_above_the_authorized_amount_is_declined(subject: Subject, client: Client) -> None:
    """Definitely, with nothing moved."""
    hold = order(Operation.AUTHORIZE)
    await client.result(hold)
    capture = order(Operation.CAPTURE, of=hold, amount_minor=1051)
    assert isinstance(await client.result(capture), Declined)
    assert subject.truth(capture) == []


async def test_a_capture_of_what_was_never_authorized_is_declined(client: Client) -> None:
    """There is no such authorization."""
    assert isinstance(await client.result(order(Operation.CAPTURE, of=order(Operation.AUTHORIZE))), Declined)


async def test_a_void_releases_the_authorization(subject: Subject, client: Client) -> None:
    """And a second one acknowledges that nothing is held."""
    hold = order(Operation.AUTHORIZE)
    await client.result(hold)
    void, again = order(Operation.VOID, of=hold), order(Operation.VOID, of=hold)
    assert isinstance(await client.result(void), Approved)
    assert isinstance(await client.result(again), Approved)
    assert shape(subject.truth(void)) == [("void", 1050, "eur")]
    assert subject.truth(again) == []
    assert isinstance(await client.result(order(Operation.CAPTURE, of=hold)), Declined)


async def test_a_void_of_what_is_gone_is_acknowledged(client: Client) -> None:
    """Nothing is held, which is what was wanted."""
    assert isinstance(await client.result(order(Operation.VOID, of=order(Operation.AUTHORIZE))), Approved)


async def test_a_void_of_what_is_captured_is_declined(subject: Subject, client: Client) -> None:
    """It takes a refund by then."""
    hold = order(Operation.AUTHORIZE)
    await client.result(hold)
    await client.result(order(Operation.CAPTURE, of=hold))
    void = order(Operation.VOID, of=hold)
    assert isinstance(await client.result(void), Declined)
    assert subject.truth(void) == []


async def test_refunds_in_parts_return_the_money_up_to_what_was_taken(subject: Subject, client: Client) -> None:
    """Of a purchase and of a capture; the last cent may be refunded, one more may not."""
    purchase, hold = order(Operation.PURCHASE), order(Operation.AUTHORIZE)
    capture = order(Operation.CAPTURE, of=hold)
    for taken in (purchase, hold, capture):
        await client.result(taken)
    for taken in (purchase, capture):
        part = order(Operation.REFUND, of=taken, amount_minor=1000)
        rest = order(Operation.REFUND, of=taken, amount_minor=50)
        too_much = order(Operation.REFUND, of=taken, amount_minor=1)
        assert isinstance(await client.result(part), Approved)
        assert isinstance(await client.result(rest), Approved)
        assert isinstance(await client.result(too_much), Declined)
        assert shape(subject.truth(part) + subject.truth(rest)) == [("refund", 1000, "eur"), ("refund", 50, "eur")]
        assert subject.truth(too_much) == []


async def test_a_refund_that_the_issuer_is_still_working_on_is_unknown(client: Client) -> None:
    """In progress, asked about later; the second question finds it approved."""
    purchase = order(Operation.PURCHASE, card="refund_pending")
    await client.result(purchase)
    refund = order(Operation.REFUND, of=purchase)
    assert await client.result(refund) == Unknown("in_progress")
    assert await client.result(query_about(refund)) == Unknown("in_progress")
    assert isinstance(await client.result(query_about(refund)), Approved)


async def test_a_refund_that_comes_back_is_found_declined(client: Client) -> None:
    """Approved first, returned later: nothing stays moved."""
    purchase = order(Operation.PURCHASE, card="refund_returned")
    await client.result(purchase)
    refund = order(Operation.REFUND, of=purchase)
    assert isinstance(await client.result(refund), Approved)
    await client.result(query_about(refund))
    outcome = await client.result(query_about(refund))
    assert isinstance(outcome, Declined)
    assert outcome.advice == "returned"


@pytest.mark.parametrize("operation", [Operation.PURCHASE, Operation.AUTHORIZE])
async def test_a_reversal_undoes_whatever_has_happened(subject: Subject, client: Client, operation: Operation) -> None:
    """Repeated, it is acknowledged again and undoes nothing more."""
    made = order(operation)
    await client.result(made)
    reversal = reversal_of(made)
    assert isinstance(await client.result(reversal), Approved)
    undone = subject.truth(reversal)
    assert {(effect.kind, effect.amount) for effect in undone} == {("reversal", 1050)}
    assert {effect.reversed for effect in undone} == {effect.kind for effect in subject.truth(made)}
    assert isinstance(await client.result(resend(reversal)), Approved)
    assert isinstance(await client.result(reversal_of(resend(made))), Approved)
    assert subject.truth(reversal) == undone
    found = await client.result(query_about(made))
    assert isinstance(found, Declined)
    assert found.advice == "reversed"


async def test_a_reversal_that_comes_before_its_original_stops_it(subject: Subject, client: Client) -> None:
    """What it declares: it remembers reversals. The original arrives afterwards and has no effect."""
    if not client.connector.declares.remembers_reversals:
        pytest.skip("does not remember reversals")
    made = order(Operation.PURCHASE)
    assert isinstance(await client.result(reversal_of(made)), Approved)
    assert isinstance(await client.result(made), Declined)
    assert subject.truth(made) == []


@pytest.mark.parametrize("operation", [Operation.PURCHASE, Operation.AUTHORIZE])
async def test_a_query_finds_what_became_of_an_order(client: Client, operation: Operation) -> None:
    """Approved and declined as the order itself was answered; not found where it never arrived."""
    approved, declined, never_sent = order(operation), order(operation, card="insufficient_funds"), order(operation)
    first = await client.results(approved, declined)
    assert await client.results(*map(query_about, (approved, declined, never_sent))) == [*first, NotFound()]


async def test_a_query_finds_captures_voids_refunds_and_reversals(client: Client) -> None:
    """Each operation has a reference of its own."""
    hold, other, purchase = order(Operation.AUTHORIZE), order(Operation.AUTHORIZE), order(Operation.PURCHASE)
    await client.results(hold, other, purchase)
    followed = [
        order(Operation.CAPTURE, of=hold, amount_minor=700),
        order(Operation.VOID, of=other),
        order(Operation.REFUND, of=purchase, amount_minor=300),
    ]
    assert {type(outcome) for outcome in await client.results(*followed)} == {Approved}
    assert {type(outcome) for outcome in await client.results(*map(query_about, followed))} == {Approved}
    reversal = reversal_of(order(Operation.PURCHASE))
    await client.result(reversal)
    assert isinstance(await client.result(query_about(reversal)), Approved)


async def test_the_same_request_again_has_the_same_answer_and_no_second_effect(subject: Subject, client: Client) -> None:
    """Every operation that moves or frees money, inside the window that is declared."""
    if client.connector.declares.idempotency_window_seconds is None:
        pytest.skip("has no keys")
    purchase, hold, declined = (
        order(Operation.PURCHASE), order(Operation.AUTHORIZE), order(Operation.PURCHASE, card="declined")
    )  # fmt: skip
    capture = order(Operation.CAPTURE, of=hold, amount_minor=400)
    refund = order(Operation.REFUND, of=purchase, amount_minor=400)
    for sent in (purchase, hold, declined, capture, refund):
        first = await client.result(sent)
        effects = subject.truth(sent)
        assert await client.result(resend(sent)) == first
        assert subject.truth(sent) == effects


async def test_a_duplicate_made_by_the_network_is_one_effect(subject: Subject, client: Client) -> None:
    """The request is delivered twice and answered twice; one result is delivered."""
    purchase = order(Operation.PURCHASE)
    with subject.fault("duplicate_request", purchase):
        assert isinstance(await client.result(purchase), Approved)
    assert isinstance(await client.result(order(Operation.PURCHASE)), Approved)
    assert len(client.delivered) == 2
    assert len(subject.truth(purchase)) == 2


async def test_a_lost_answer_is_unknown_until_the_query_finds_it(subject: Subject) -> None:
    """The effect is there; the connector says that it does not know."""
    purchase = order(Operation.PURCHASE)
    async with using(subject, answer_seconds=0.2) as hasty, using(subject) as client:
        with subject.fault("lost_answer", purchase, operation="purchase"):
            assert await hasty.result(purchase) == Unknown("timeout")
            await until(lambda: len(subject.truth(purchase)) == 2)
        assert isinstance(await client.result(query_about(purchase)), Approved)


async def test_a_lost_request_is_unknown_and_a_resend_makes_it_happen_once(subject: Subject) -> None:
    """The query finds nothing, which proves nothing; the same key again is safe in either case."""
    purchase = order(Operation.PURCHASE)
    async with using(subject, answer_seconds=0.2) as hasty, using(subject) as client:
        with subject.fault("lost_request", purchase, operation="purchase") as has_hit:
            assert await hasty.result(purchase) == Unknown("timeout")
            await until(has_hit)
        assert await client.result(query_about(purchase)) == NotFound()
        assert isinstance(await client.result(resend(purchase)), Approved)
        assert len(subject.truth(purchase)) == 2


async def test_a_request_that_arrives_after_not_found_is_stopped_by_its_reversal(subject: Subject) -> None:
    """The case that makes "not found" no proof."""
    purchase = order(Operation.PURCHASE)
    async with using(subject, answer_seconds=0.2) as hasty, using(subject) as client:
        with subject.fault("after_not_found", purchase, operation="purchase", delay_ms=100) as has_hit:
            assert await hasty.result(purchase) == Unknown("timeout")
            await until(has_hit)
            assert isinstance(await client.result(reversal_of(purchase)), Approved)
            await until(lambda: len(hasty.late) == 1)
        assert isinstance(hasty.late[0][1], Declined)
        assert subject.truth(purchase) == []


async def test_a_late_answer_is_told_after_the_order_was_unknown(subject: Subject) -> None:
    """Once, by the other callback, with the definite outcome."""
    purchase = order(Operation.PURCHASE)
    async with using(subject, answer_seconds=0.1) as client:
        with subject.fault("late_answer", purchase, operation="purchase", delay_ms=2_000):
            assert await client.result(purchase) == Unknown("timeout")
            await until(lambda: len(client.late) == 1)
        told, outcome = client.late[0]
        assert told is purchase
        assert isinstance(outcome, Approved)
        assert len(client.delivered) == 1


async def test_the_late_answer_of_an_earlier_sending_answers_the_resend(subject: Subject) -> None:
    """It is about the same request, so it is delivered once, and nothing is late."""
    purchase = order(Operation.PURCHASE)
    async with using(subject, answer_seconds=1) as client:
        with subject.fault("late_answer", purchase, operation="purchase", delay_ms=3_000, count=1):
            assert await client.result(purchase) == Unknown("timeout")
            assert isinstance(await client.result(resend(purchase)), Approved)
        assert len(client.delivered) == 2
        assert len(subject.truth(purchase)) == 2


@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
async def test_an_approval_of_other_money_is_not_believed(subject: Subject, client: Client, fault: str) -> None:
    """Amount and currency are checked before the answer counts."""
    purchase = order(Operation.PURCHASE)
    with subject.fault(fault, purchase, operation="purchase"):
        assert await client.result(purchase) == Unknown("mismatch")
    assert isinstance(await client.result(query_about(purchase)), Approved)


async def test_an_answer_to_another_reference_is_nobodys(subject: Subject) -> None:
    """The order waits for its own answer in vain, or is told that it got none; it is asked about."""
    purchase = order(Operation.PURCHASE)
    async with using(subject, answer_seconds=0.2) as hasty, using(subject) as client:
        with subject.fault("wrong_reference", purchase, operation="purchase"):
            assert await hasty.result(purchase) in (Unknown("timeout"), Unknown("unreadable"))
            await until(lambda: len(subject.truth(purchase)) == 2)
        assert isinstance(await client.result(query_about(purchase)), Approved)


async def test_a_malformed_answer_leaves_the_order_unknown_and_the_next_one_works(subject: Subject, client: Client) -> None:
    """The connection is given up; what was on it is asked about."""
    purchase = order(Operation.PURCHASE)
    with subject.fault("malformed", purchase, operation="purchase"):
        assert await client.result(purchase) == Unknown("unreadable")
    assert isinstance(await client.result(query_about(purchase)), Approved)
    assert isinstance(await client.result(order(Operation.PURCHASE)), Approved)


async def test_a_connection_closed_in_place_of_the_answer_leaves_the_order_unknown(subject: Subject, client: Client) -> None:
    """Done at the other end, not known here."""
    purchase = order(Operation.PURCHASE)
    with subject.fault("close", purchase, operation="purchase"):
        assert await client.result(purchase) == Unknown("reset")
    assert isinstance(await client.result(query_about(purchase)), Approved)


async def test_an_answer_in_single_bytes_is_read(subject: Subject, client: Client) -> None:
    """However the bytes are cut."""
    purchase = order(Operation.PURCHASE)
    with subject.fault("slow", purchase, operation="purchase", delay_ms=1):
        assert isinstance(await client.result(purchase), Approved)


@pytest.mark.parametrize("effect", [True, False])
async def test_an_error_of_the_network_is_unknown_whether_or_not_it_happened(
    subject: Subject, client: Client, effect: bool
) -> None:
    """96 says nothing about the operation."""
    purchase = order(Operation.PURCHASE)
    with subject.fault("error", purchase, operation="purchase", code="96", effect=effect):
        assert await client.result(purchase) == Unknown("psp_error")
    found = await client.result(query_about(purchase))
    assert isinstance(found, Approved if effect else NotFound)


@pytest.mark.parametrize("operation", [Operation.PURCHASE, Operation.AUTHORIZE, Operation.CAPTURE, Operation.REFUND])
async def test_where_nobody_listens_nothing_is_sent(subject: Subject, operation: Operation) -> None:
    """A refused connection is proof for a first request; a resend stays unknown."""
    async with using(subject, reachable=False) as client:
        first = order(operation, of=order(Operation.AUTHORIZE))
        again = resend(order(operation, of=order(Operation.AUTHORIZE)))
        assert await client.results(first, again) == [NotSent("connect"), Unknown("connect")]


async def test_without_permission_nothing_is_sent(subject: Subject, client: Client) -> None:
    """Asked right before the write; the truth knows nothing of it."""
    client.allowed = False
    purchase = order(Operation.PURCHASE)
    assert await client.results(purchase, resend(purchase), reversal_of(purchase)) == [
        NotSent("fenced"), Unknown("in_progress"), Unknown("fenced")
    ]  # fmt: skip
    client.allowed = True
    assert await client.result(query_about(purchase)) == NotFound()
    assert subject.truth(purchase) == []


async def test_what_the_connector_does_not_do_is_not_sent(client: Client) -> None:
    """Here: 3-D Secure, where it is not declared."""
    if client.connector.declares.three_d_secure:
        pytest.skip("does 3-D Secure")
    assert isinstance(await client.result(order(Operation.AUTHENTICATE)), NotSent)


RETURN = "http://checkout/authenticate/x/return"


@pytest.fixture
def secure(client: Client) -> Client:
    """A connector that declares 3-D Secure."""
    if not client.connector.declares.three_d_secure:
        pytest.skip("does no 3-D Secure")
    return client


def authentication(card: str) -> Order:
    """The question whether it is the buyer."""
    return replace(order(Operation.AUTHENTICATE), payment_method_id=f"pm_{card}", send_cvc=False, returns_to=RETURN)


async def test_a_soft_decline_says_that_the_issuer_wants_to_see_the_buyer(subject: Subject, secure: Client) -> None:
    """It is definite, and nothing has happened."""
    purchase = order(Operation.PURCHASE, card="authenticates")
    outcome = await secure.result(purchase)
    assert isinstance(outcome, Declined) and outcome.wants_authentication
    assert outcome.code == "authentication_required"
    assert subject.truth(purchase) == []


async def test_an_authentication_gives_a_proof_that_holds_for_one_payment(subject: Subject, secure: Client) -> None:
    """Its card, amount and currency, once; any other is refused, and moves nothing."""
    asked = authentication("authenticates")
    outcome = await secure.result(asked)
    assert isinstance(outcome, Approved) and outcome.authentication is not None and outcome.authentication.authenticated
    assert [effect.kind for effect in subject.truth(asked)] == ["authentication"]
    proof = outcome.authentication.proof
    wrong = [
        replace(order(Operation.PURCHASE, card="authenticates"), proof=proof, amount_minor=asked.amount_minor + 1),
        replace(order(Operation.PURCHASE, card="good"), proof=proof),
        replace(order(Operation.PURCHASE, card="authenticates"), proof=proof[:-1] + ("0" if proof[-1] != "0" else "1")),
    ]
    for one in wrong:
        assert isinstance(await secure.result(one), Declined)
        assert subject.truth(one) == []
    assert isinstance(await secure.result(replace(order(Operation.PURCHASE, card="authenticates"), proof=proof)), Approved)
    again = replace(order(Operation.PURCHASE, card="authenticates"), proof=proof)
    assert isinstance(await secure.result(again), Declined)
    assert subject.truth(again) == []


async def test_the_same_authentication_again_gets_the_same_proof(secure: Client) -> None:
    """It may be asked for as often as one likes: by the same request, and by a query."""
    asked = authentication("authenticates")
    first = await secure.result(asked)
    again = await secure.result(replace(asked, first=False))
    found = await secure.result(query_about(asked))
    assert isinstance(first, Approved) and isinstance(again, Approved) and isinstance(found, Approved)
    assert first.authentication == again.authentication == found.authentication
    assert await secure.result(query_about(authentication("authenticates"))) == NotFound()


@pytest.mark.parametrize("passed", [True, False])
async def test_what_came_of_a_challenge_is_asked(subject: Subject, secure: Client, passed: bool) -> None:
    """Until the buyer has answered it is still wanted; he is sent back to where the request said."""
    asked = authentication("challenges")
    outcome = await secure.result(asked)
    assert isinstance(outcome, ActionRequired)
    assert await secure.result(query_about(asked)) == outcome
    assert subject.answer_challenge(outcome.url, passed=passed) == RETURN
    answered = await secure.result(query_about(asked))
    if passed:
        assert isinstance(answered, Approved) and answered.authentication is not None and answered.authentication.challenged
        paid = replace(order(Operation.PURCHASE, card="challenges"), proof=answered.authentication.proof)
        assert isinstance(await secure.result(paid), Approved)
    else:
        assert isinstance(answered, Declined) and answered.code == "authentication_failed"
    subject.answer_challenge(outcome.url, passed=not passed)
    assert await secure.result(query_about(asked)) == answered


@pytest.mark.parametrize("card", ["authentication_unavailable", "authentication_not_supported"])
async def test_an_issuer_that_cannot_authenticate_says_so(secure: Client, card: str) -> None:
    """By name; the card may still be charged."""
    outcome = await secure.result(authentication(card))
    assert isinstance(outcome, Declined) and outcome.code == card


async def test_many_orders_at_once_are_all_delivered_once(subject: Subject, client: Client) -> None:
    """Approvals and declines mixed, each with its own answer."""
    orders = [order(Operation.PURCHASE, card="declined" if number % 5 == 0 else "good") for number in range(200)]
    outcomes = await client.results(*orders)
    assert [isinstance(outcome, Declined) for outcome in outcomes] == [number % 5 == 0 for number in range(200)]
    assert len(client.delivered) == 200


async def test_an_exchange_that_was_not_plain_is_recorded_masked(subject: Subject, client: Client) -> None:
    """A resend's request and answer in order, with neither card number nor CVC in them; a plain approval is not recorded."""
    purchase = order(Operation.PURCHASE)
    await client.result(purchase)
    assert client.exchanges == []
    await client.result(replace(purchase, first=False))
    assert [(exchange.attempt_id, exchange.direction) for exchange in client.exchanges] == [
        (purchase.attempt_id, Direction.SENT), (purchase.attempt_id, Direction.RECEIVED)
    ]  # fmt: skip
    card = subject.card("good")
    for exchange in client.exchanges:
        assert card.number.reveal() not in exchange.text
        assert f":{subject.CVC}" not in exchange.text
    assert card.number.last4 in client.exchanges[0].text
    assert purchase.reference in client.exchanges[1].text


async def test_it_declares_what_its_class_promises(client: Client) -> None:
    """A key is worth nothing without its window."""
    declares = client.connector.declares
    has_keys = declares.contract_class is ContractClass.KEY_QUERY_VOID
    assert has_keys == (declares.idempotency_window_seconds is not None)
    assert client.connector.name
