"""3-D Secure through a payments room on a real PostgreSQL: what the issuer says of the buyer, and what becomes of the payment."""

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from guilder.core.clock import HOUR, MINUTE, SECOND
from guilder.core.outcome import ActionRequired, Approved, Authentication, Declined, NotFound, NotSent, Unknown
from guilder.payments import ask_issuer, cancel, confirm, create, expire_challenges, update
from guilder.payments.commands import CancelPayment, ConfirmPayment, CreatePayment, UpdatePayment
from guilder.payments.store import _ABANDONED, _READ_BY
from guilder.psp.model import Operation

WANTS = Declined("authentication_required", "65", wants_authentication=True)
PROVED = Authentication("proof-1", indicator="05", transaction_id="42")
URL = "http://bank/challenge/x"


class Issuer:
    """Wants to see the buyer before it pays; what it then says, and what comes of a challenge, the test sets."""

    def __init__(self, world) -> None:
        self.says = lambda order: Approved(order.reference, authentication=PROVED)
        self.charge = lambda order: Approved(order.reference, "123456")
        self.wants = True
        self.result = lambda order: ActionRequired(URL)
        self.psp = world.psp
        world.psp.answer = self.answer

    def answer(self, order):
        match order.operation:
            case Operation.AUTHENTICATE:
                return self.says(order)
            case Operation.QUERY:
                return self.result(order)
            case Operation.PURCHASE | Operation.AUTHORIZE if self.wants and order.proof is None:
                return WANTS
        return self.charge(order)

    def sent(self) -> list[Operation]:
        """What was asked of the PSP, in order."""
        return [order.operation for order in self.psp.orders]


@pytest.fixture
def issuer(world):
    """The issuer of every card."""
    return Issuer(world)


async def pay(world, claim=None, **more):
    """Try to take a payment; returns the answer."""
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card(), **more)
    return (await create(world.services, claim or world.claim(), command)).answer


async def challenged(world, issuer, **more):
    """A payment whose buyer was sent to the bank; returns what the answer shows."""
    issuer.says = lambda _order: ActionRequired(URL)
    answer = await pay(world, **more)
    assert (answer.status, answer.root.status) == (200, "requires_action")
    return answer.root


async def back(world, payment):
    """The buyer is back: his bank is to be asked."""
    found = await world.store.challenge(payment.next_action_url.rpartition("/")[2])
    await ask_issuer(world.services, found)


async def comes_to(world, payment, *states):
    """Wait until the payment is in one of these states; returns it."""

    async def there():
        facts = await world.payment(payment.id)
        return facts if facts.status in states else None

    return await world.until(there)


async def challenge_of(world, payment):
    """The challenge's row."""
    return await world.db.fetchrow("SELECT * FROM challenge WHERE payment = $1 ORDER BY opened_at DESC, id LIMIT 1", payment.id)


async def nothing_open(world):
    """Wait until no attempt is open."""

    async def none():
        return await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0

    await world.until(none)


async def test_a_soft_decline_is_followed_by_an_authentication_and_the_authorization_that_carries_its_proof(world, issuer):
    """Each accepts the next in its own commit, with a key of its own; the caller hears of the end only."""
    answer = await pay(world)
    assert (answer.status, answer.root.status, answer.root.amount_received) == (200, "succeeded", 1000)
    assert issuer.sent() == [Operation.PURCHASE, Operation.AUTHENTICATE, Operation.PURCHASE]
    first, _, last = world.psp.orders
    assert (first.proof, last.proof) == (None, "proof-1")
    assert len({order.psp_key for order in world.psp.orders}) == len({order.reference for order in world.psp.orders}) == 3
    assert await world.event_types() == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    states = await world.db.fetch("SELECT operation, state FROM attempt ORDER BY id")
    assert [tuple(row) for row in states] == [("purchase", "declined"), ("authenticate", "approved"), ("purchase", "approved")]
    await world.books_agree()


async def test_the_charge_tells_how_the_buyer_was_authenticated(world, issuer):
    """Flow, result, indicator and transaction id, from the issuer's word."""
    answer = await pay(world)
    charge = (await world.store.read(answer.root.latest_charge, world.account, False)).charge.facts
    shown = charge.three_d_secure
    assert (shown.result, shown.flow, shown.indicator, shown.transaction_id) == ("authenticated", "frictionless", "05", "42")


@pytest.mark.parametrize("how", ["off_session", "error_on_requires_action"])
async def test_without_the_buyer_a_soft_decline_is_a_decline(world, issuer, how):
    """402 authentication_required, and nothing but the first request."""
    answer = await pay(world, **{how: True})
    assert (answer.status, answer.error.code, answer.error.decline_code) == (402, "authentication_required", "authentication_required")
    assert answer.root.status == "requires_payment_method"
    assert issuer.sent() == [Operation.PURCHASE]


async def test_a_proof_that_the_issuer_does_not_accept_ends_in_a_decline(world, issuer):
    """A soft decline of an authorization that carried a proof leads to no second authentication."""
    issuer.charge = lambda _order: WANTS
    answer = await pay(world)
    assert (answer.status, answer.error.code) == (402, "authentication_required")
    assert issuer.sent() == [Operation.PURCHASE, Operation.AUTHENTICATE, Operation.PURCHASE]


async def test_a_buyer_who_is_not_authenticated_is_not_charged(world, issuer):
    """The payment asks for another card, there is no charge, and the code says why."""
    issuer.says = lambda _order: Declined("authentication_failed")
    answer = await pay(world)
    assert (answer.status, answer.error.code) == (402, "payment_intent_authentication_failure")
    assert (answer.root.status, answer.root.latest_charge) == ("requires_payment_method", None)
    assert issuer.sent() == [Operation.PURCHASE, Operation.AUTHENTICATE]
    assert await world.event_types() == ["payment_intent.created", "payment_intent.payment_failed"]


@pytest.mark.parametrize(
    "word", [Declined("authentication_unavailable"), Unknown("timeout"), NotSent("connect"), NotFound(), Unknown("mismatch")],
)  # fmt: skip
async def test_without_a_word_of_the_issuer_a_required_authentication_ends_in_a_decline(world, issuer, word):
    """It is never in doubt: nothing is asked again, and the caller hears at once."""
    issuer.says = lambda _order: word
    answer = await pay(world)
    assert (answer.status, answer.error.code, answer.error.decline_code) == (402, "card_declined", "authentication_required")
    assert issuer.sent() == [Operation.PURCHASE, Operation.AUTHENTICATE]
    assert "payment_intent.processing" not in await world.event_types()
    await nothing_open(world)


@pytest.mark.parametrize(
    ("word", "result"),
    [
        (Declined("authentication_unavailable"), "processing_error"), (Unknown("timeout"), "processing_error"),
        (Declined("authentication_not_supported"), "not_supported"),
    ],
)  # fmt: skip
async def test_an_authentication_that_only_the_merchant_wanted_is_not_waited_for(world, issuer, word, result):
    """The payment goes on without a proof, and the charge says that there was none."""
    issuer.wants, issuer.says = False, lambda _order: word
    answer = await pay(world, request_three_d_secure="any")
    assert (answer.status, answer.root.status) == (200, "succeeded")
    assert issuer.sent() == [Operation.AUTHENTICATE, Operation.PURCHASE]
    charge = (await world.store.read(answer.root.latest_charge, world.account, False)).charge.facts
    assert charge.three_d_secure.result == result
    await world.books_agree()


async def test_a_merchant_may_ask_for_the_authentication_before_the_issuer_does(world, issuer):
    """`any` authenticates first; the authorization carries the proof; a hold is made where capture is manual."""
    answer = await pay(world, request_three_d_secure="any", capture_method="manual")
    assert answer.root.status == "requires_capture"
    assert issuer.sent() == [Operation.AUTHENTICATE, Operation.AUTHORIZE]
    assert world.psp.orders[1].proof == "proof-1"


async def test_a_card_that_is_declined_after_its_authentication_counts_as_a_declined_one(world, issuer):
    """Asking for the authentication first is no way around the limit of tries with one card."""
    issuer.charge = lambda _order: Declined("insufficient_funds", "51")
    for _ in range(3):
        assert (await pay(world, request_three_d_secure="any")).status == 402
    assert world.services.signals.gather(1000, "eur", world.card()).tries == (3,)


async def test_a_challenge_sends_the_buyer_to_the_checkout_and_holds_no_slot(world, issuer):
    """The answer names the address; the issuer was told where to send him back to."""
    payment = await challenged(world, issuer, return_url="https://shop/done")
    row = await challenge_of(world, payment)
    assert payment.next_action_url == f"http://checkout/authenticate/{row['id']}"
    assert world.psp.orders[-1].returns_to == f"http://checkout/authenticate/{row['id']}/return"
    assert (row["state"], row["url"], row["expires_at"] - row["opened_at"]) == ("open", URL, 15 * MINUTE)
    assert await world.event_types() == ["payment_intent.created", "payment_intent.requires_action"]
    assert await world.db.fetchval("SELECT count(*) FROM attempt_open") == 0


@pytest.mark.parametrize(("authenticated", "state"), [(True, "passed"), (False, "attempted")])
async def test_a_challenge_that_is_passed_leads_to_the_authorization(world, issuer, authenticated, state):
    """The issuer is asked, server to server; only its word counts."""
    payment = await challenged(world, issuer)
    issuer.result = lambda order: Approved(order.reference, authentication=Authentication("proof-2", authenticated, challenged=True))
    await back(world, payment)
    paid = await comes_to(world, payment, "succeeded")
    assert (paid.amount_received, paid.next_action_url) == (1000, None)
    assert world.psp.orders[-1].proof == "proof-2"
    assert (await challenge_of(world, payment))["state"] == state
    await nothing_open(world)
    await world.books_agree()


async def test_a_challenge_that_is_failed_charges_nothing(world, issuer):
    """The payment asks for another card, which may be tried on the same payment."""
    payment = await challenged(world, issuer)
    issuer.result = lambda _order: Declined("authentication_failed")
    await back(world, payment)
    failed = await comes_to(world, payment, "requires_payment_method")
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    assert (await challenge_of(world, payment))["state"] == "failed"
    issuer.wants = False
    again = await confirm(world.services, world.claim(), ConfirmPayment(payment=payment.id, payment_method=world.card()))
    assert again.answer.root.status == "succeeded"


async def test_a_buyer_who_comes_back_without_an_answer_changes_nothing(world, issuer):
    """Whoever comes back next asks again."""
    payment = await challenged(world, issuer)
    await back(world, payment)
    await world.until(lambda: Operation.QUERY in issuer.sent())
    await nothing_open(world)
    assert (await world.payment(payment.id)).status == "requires_action"
    issuer.result = lambda order: Approved(order.reference, authentication=PROVED)
    await back(world, payment)
    await comes_to(world, payment, "succeeded")


async def test_a_bank_that_cannot_be_asked_is_asked_again_until_it_answers(world, issuer):
    """The payment waits for the buyer's bank, not for the first answer of the network."""
    payment = await challenged(world, issuer)
    issuer.result = lambda _order: Unknown("timeout")
    await back(world, payment)
    await world.until(lambda: Operation.QUERY in issuer.sent())
    issuer.result = lambda order: Approved(order.reference, authentication=PROVED)

    async def paid():
        world.clock.advance(SECOND)
        return (await world.payment(payment.id)).status == "succeeded"

    await world.until(paid)
    await nothing_open(world)


async def test_a_challenge_that_cannot_be_ended_keeps_no_other_from_its_end(world, issuer):
    """It is looked at first, each time."""
    spoilt, payment = await challenged(world, issuer), await challenged(world, issuer)
    await world.db.execute("UPDATE payment SET facts = '\\xc1' WHERE id = $1", spoilt.id)
    world.clock.advance(HOUR)
    with capture_logs():
        assert await expire_challenges(world.services) == 1
    assert (await challenge_of(world, payment))["state"] == "abandoned"


async def test_a_buyer_who_does_not_come_back_is_waited_for_a_quarter_of_an_hour(world, issuer):
    """Abandoned: the payment asks for a card again; a result that comes later is kept and moves nothing."""
    payment = await challenged(world, issuer)
    world.clock.advance(15 * MINUTE - SECOND)
    assert await expire_challenges(world.services) == 0
    world.clock.advance(SECOND)
    assert await expire_challenges(world.services) == 1
    left = await world.payment(payment.id)
    assert (left.status, left.last_payment_error.code) == ("requires_payment_method", "payment_intent_payment_attempt_expired")
    assert (await challenge_of(world, payment))["state"] == "abandoned"
    assert await expire_challenges(world.services) == 0
    await back(world, payment)
    assert (await world.payment(payment.id)) == left


LEAVE = {
    "cancel": (lambda w, p: cancel(w.services, w.claim(), CancelPayment(payment=p)), "canceled"),
    "amount": (lambda w, p: update(w.services, w.claim(), UpdatePayment(payment=p, amount=999)), "requires_confirmation"),
    "currency": (lambda w, p: update(w.services, w.claim(), UpdatePayment(payment=p, currency="chf")), "requires_confirmation"),
    "card": (lambda w, p: update(w.services, w.claim(), UpdatePayment(payment=p, payment_method=w.card())), "requires_confirmation"),
    "no card": (lambda w, p: update(w.services, w.claim(), UpdatePayment(payment=p, payment_method=None)), "requires_payment_method"),
}


@pytest.mark.parametrize("how", LEAVE)
async def test_a_payment_that_moves_on_discards_its_challenge_and_a_late_result_is_kept_and_moves_nothing(world, issuer, how):
    """The question was under way: its answer, a pass, is stored on the challenge."""
    leave, state = LEAVE[how]
    payment = await challenged(world, issuer)
    issuer.result = lambda _order: None
    await back(world, payment)
    await world.until(lambda: world.psp.held)
    await leave(world, payment.id)
    left = await world.payment(payment.id)
    assert (left.status, left.next_action_url) == (state, None)
    [(order, deliver)] = world.psp.held
    deliver(order, Approved(order.reference, authentication=PROVED))
    await nothing_open(world)
    row = await challenge_of(world, payment)
    assert row["state"] == "discarded" and row["result"] is not None
    assert await world.payment(payment.id) == left
    assert issuer.sent().count(Operation.PURCHASE) == 1


async def test_an_update_that_changes_neither_amount_nor_card_lets_the_buyer_go_on(world, issuer):
    """Metadata, and the same amount once more."""
    payment = await challenged(world, issuer)
    await update(world.services, world.claim(), UpdatePayment(payment=payment.id, amount=1000, metadata={"a": "b"}))
    assert (await world.payment(payment.id)).status == "requires_action"
    assert (await challenge_of(world, payment))["state"] == "open"


async def test_a_new_confirm_opens_a_new_challenge(world, issuer):
    """The address before it leads nowhere any more."""
    payment = await challenged(world, issuer)
    again = await confirm(world.services, world.claim(), ConfirmPayment(payment=payment.id))
    assert again.answer.root.status == "requires_action"
    assert again.answer.root.next_action_url != payment.next_action_url
    states = await world.db.fetch("SELECT state FROM challenge WHERE payment = $1 ORDER BY opened_at, id", payment.id)
    assert sorted(row["state"] for row in states) == ["discarded", "open"]


async def test_of_two_results_one_moves_the_payment_and_one_charge_is_made(world, issuer):
    """The buyer reloads the page of his return: asked twice, answered twice, paid once."""
    payment = await challenged(world, issuer)
    issuer.result = lambda order: Approved(order.reference, authentication=PROVED)
    await asyncio.gather(*(back(world, payment) for _ in range(5)))
    await comes_to(world, payment, "succeeded")
    await nothing_open(world)
    assert issuer.sent().count(Operation.PURCHASE) == 2
    assert await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded") == 1


@pytest.mark.parametrize("first", ["cancel", "result"])
async def test_cancel_and_result_at_once_end_in_one_of_the_two(world, issuer, first):
    """Whichever comes first: canceled and nothing charged, or charged and not canceled."""
    payment = await challenged(world, issuer)
    issuer.result = lambda order: Approved(order.reference, authentication=PROVED)
    work = [back(world, payment), cancel(world.services, world.claim(), CancelPayment(payment=payment.id))]
    await asyncio.gather(*(work if first == "result" else reversed(work)), return_exceptions=True)
    ended = await comes_to(world, payment, "succeeded", "canceled")
    await nothing_open(world)
    charged = await world.db.fetchval("SELECT count(*) FROM charge WHERE succeeded")
    assert (ended.status, charged) in (("succeeded", 1), ("canceled", 0))
    await world.books_agree()


async def test_a_repeated_request_gets_the_first_answer_also_when_the_buyer_has_paid_since(world, issuer):
    """One key, one answer: it is the payment as it was, waiting for the buyer."""
    claim = world.claim("k")
    payment = await challenged(world, issuer, claim=claim)
    issuer.result = lambda order: Approved(order.reference, authentication=PROVED)
    await back(world, payment)
    await comes_to(world, payment, "succeeded")
    again = await pay(world, claim=world.claim("k"))
    assert again.root == payment


async def test_an_authentication_whose_sender_was_lost_is_asked_for_once_more(world, issuer):
    """It moved nothing, and the same request gets the same answer; the buyer notices nothing."""
    issuer.says = lambda _order: None
    asked = asyncio.create_task(pay(world))
    await world.until(lambda: world.psp.held)
    issuer.says = lambda order: Approved(order.reference, authentication=PROVED)
    world.executor.lost(world.sender.id)
    await world.db.execute("SELECT attempts_set_free($1, '{}', $2)", world.sender.id, world.clock.now())
    answer = await asked
    assert (answer.status, answer.root.status) == (200, "succeeded")
    sent = world.psp.sent(Operation.AUTHENTICATE)
    assert len(sent) == 2 and sent[0].reference == sent[1].reference and sent[0].first and not sent[1].first


async def test_a_payment_finds_its_own_challenge_among_all_that_are_open(world):
    """On a fresh database too, where no index looks better than another by what is in it."""
    async with world.db.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off")
        for sql, index in ((_READ_BY["pi"], "challenge_open"), (_ABANDONED, "challenge_expiring")):
            arguments = ("pi_1", world.account, False) if index == "challenge_open" else (0, 1)
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *arguments))
            assert re.search(r"using (challenge\w*)", plan)[1] == index
