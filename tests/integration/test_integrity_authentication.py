"""`guilder check` knows the authentications: the bank's word, its proofs, and who is waited for."""

import msgspec
import pytest
from steps import tamper

from guilder.core.outcome import ActionRequired, Approved, Authentication, Declined
from guilder.integrity import examine, tell
from guilder.payments import ask_issuer, create
from guilder.payments.commands import CreatePayment
from guilder.psp.model import Operation

WANTS = Declined("authentication_required", "65", wants_authentication=True)


async def found(world, effects):
    """What the checks find, by name, with a bank that tells these effects."""
    witness = lambda: iter([msgspec.json.encode(one) for one in effects])  # noqa: E731
    results = examine(world.dsn, now=world.clock.now(), running=False, witness=witness, tell=lambda _progress: None)
    return {result.name: result.violations async for result in results if result.violated}


async def challenged(world):
    """A payment whose buyer is with his bank."""

    def answer(order):
        match order.operation:
            case Operation.AUTHENTICATE:
                return ActionRequired("http://bank")
            case Operation.QUERY:
                return Approved(order.reference, authentication=Authentication("proof", challenged=True))
        return Approved(order.reference) if order.proof else WANTS

    world.psp.answer = answer
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card())
    return (await create(world.services, world.claim(), command)).answer.root


async def passed(world):
    """A payment whose buyer has said yes, paid; returns what a bank tells of it."""
    payment = await challenged(world)
    world.clock.advance(1_000_000)
    await ask_issuer(world.services, await world.store.challenge(payment.next_action_url.rpartition("/")[2]))

    async def paid():
        return (await world.payment(payment.id)).status == "succeeded"

    await world.until(paid)
    asked, charged = world.psp.sent(Operation.AUTHENTICATE)[0], world.psp.sent(Operation.PURCHASE)[-1]
    base = {"amount": 1000, "currency": "eur", "time": 1, "original": None}
    return [
        {"reference": asked.reference, "kind": "authentication", "result": "C", **base},
        {"reference": asked.reference, "kind": "authentication", "result": "Y", **base},
        {"reference": charged.reference, "kind": "authorization", "proof": asked.reference, **base},
        {"reference": charged.reference, "kind": "capture", **base},
    ]


async def test_a_payment_that_was_authenticated_is_sound(world):
    """While the buyer is away, and when he has said yes."""
    effects = await passed(world)
    assert await found(world, effects) == {}
    await challenged(world)
    asked = world.psp.sent(Operation.AUTHENTICATE)[-1]
    told = {"reference": asked.reference, "kind": "authentication", "result": "C", "amount": 1000, "currency": "eur", "original": None}
    assert await found(world, [*effects, told]) == {}


async def test_a_payment_that_failed_after_its_authentication_is_sound(world):
    """The issuer has seen the buyer and declines all the same: an approved attempt, and no charge that succeeded."""

    def answer(order):
        if order.operation is Operation.AUTHENTICATE:
            return Approved(order.reference, authentication=Authentication("proof"))
        return Declined("generic_decline", "05") if order.proof else WANTS

    world.psp.answer = answer
    command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=world.card())
    assert (await create(world.services, world.claim(), command)).answer.status == 402
    [asked] = world.psp.sent(Operation.AUTHENTICATE)
    told = {"reference": asked.reference, "kind": "authentication", "result": "Y", "amount": 1000, "currency": "eur", "original": None}
    assert await found(world, [told]) == {}


async def test_the_story_tells_the_buyers_way(world):
    """Soft decline, authentication, the buyer's way to his bank and back, and the authorization with the proof."""
    await passed(world)
    payment = await world.db.fetchval("SELECT id FROM payment")
    story = await tell(world.dsn, payment)
    words = [moment.what for moment in story.moments if moment.kind in ("outcome", "challenge")]
    assert words == [
        "purchase declined", "authenticate action required", "the buyer is sent to his bank", "purchase approved", "challenge passed",
    ]  # fmt: skip
    received = [moment.detail for moment in story.moments if moment.what == "received"]
    assert received[0] == "declined: the issuer wants the buyer to be authenticated" and "authorization code" in received[-1]


async def test_a_buyer_whom_the_bank_never_authenticated_is_named(world):
    """Passed in the books, and refused at the bank."""
    effects = await passed(world)
    effects[1]["result"] = "N"
    assert {name: len(violations) for name, violations in (await found(world, effects)).items()} == {"truth": 1}


async def test_a_proof_of_another_payment_is_named(world):
    """The bank took it, and it was not this payment's."""
    effects = await passed(world)
    effects[2]["proof"] = "ANOTHERPROOF"
    assert list(await found(world, effects)) == ["truth"]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE challenge SET state = 'discarded', ended_at = 1", "DELETE FROM challenge", "UPDATE payment SET state = 'canceled'",
        "UPDATE challenge SET state = 'passed', ended_at = 1", "UPDATE challenge SET attempt = 'at_none'",
    ],
)  # fmt: skip
async def test_a_payment_that_waits_for_nobody_is_named(world, sql):
    """Or a challenge that nobody waits for, or that led nowhere."""
    payment = await challenged(world)
    await tamper(world, sql)
    asked = world.psp.sent(Operation.AUTHENTICATE)[-1]
    told = {"reference": asked.reference, "kind": "authentication", "result": "Y", "amount": 1000, "currency": "eur", "original": None}
    assert "payments" in await found(world, [told])
    assert payment.status == "requires_action"
