"""Idempotency as a property: one key is one request, one effect and one answer, in whatever order and company requests come."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import count, cycle
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guilder.core.clock import DAY, SECOND
from guilder.core.errors import ErrorFacts, Refusal
from guilder.core.outcome import Approved, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.db import Connection
from guilder.idempotency import Claim, once
from guilder.payments import create, refund
from guilder.payments.commands import CreatePayment, CreateRefund
from guilder.psp.model import Operation
from guilder.shapes.facts import SHAPE, Answer

PAY, REFUND, PLAIN = range(3)
KEYS = 4
OUTCOMES = (Approved("A"), Declined("generic_decline", "05"), NotSent("connect"), Unknown("timeout"))
# At once: the same second. Later: past the first request's wait, past the life of an attempt, on another day.
PAUSES = (0, 1, 12, 70, DAY // SECOND)


class Round(NamedTuple):
    """Requests (number of the key, what is asked) that come together, and the seconds until the next ones."""

    requests: Sequence[tuple[int, int]]
    pause: int


requests = st.tuples(st.integers(0, KEYS - 1), st.sampled_from((PAY, REFUND, PLAIN)))
rounds = st.builds(Round, st.lists(requests, min_size=1, max_size=12), st.sampled_from(PAUSES))
examples = count()


class Told:
    """What the requests of one example were told, and what their effects were."""

    def __init__(self, world, paid: str) -> None:
        self.world = world
        self.paid = paid
        self.prefix = f"example-{next(examples)}"
        self.first: dict[str, int] = {}
        self.answers: dict[str, set[Answer]] = defaultdict(set)
        self.refused: dict[str, set[int]] = defaultdict(set)
        self.effects: dict[str, int] = defaultdict(int)

    async def request(self, number: int, what: int) -> None:
        """One request, as a client makes it."""
        key = f"{self.prefix}-{number}"
        try:
            answer = await self.ask(key, what)
        except Refusal as refusal:
            if refusal.facts.type == "idempotency_error":
                self.refused[key].add(what)
            else:
                assert refusal.facts.code in ("idempotency_key_in_use", "lock_timeout")
            return
        assert self.first.setdefault(key, what) == what, "another request got an answer under the key"
        self.answers[key].add(answer)

    async def ask(self, key: str, what: int) -> Answer:
        """One of three requests, which have nothing in common but the key."""
        services, claim = self.world.services, self.world.claim(key, fingerprint=bytes([what]))
        if what == PAY:
            command = CreatePayment(amount=1000, currency="eur", confirm=True, payment_method=self.world.card())
            return (await create(services, claim, command)).answer
        if what == REFUND:
            return (await refund(services, claim, CreateRefund(payment=self.paid, amount=100))).answer
        return await self.plain(claim)

    async def plain(self, claim: Claim) -> Answer:
        """A command off the hot path."""

        async def effect(connection: Connection) -> Answer:
            await connection.fetchval("SELECT 1")
            # Counted here, it counts tries that were rolled back too: there must be none under a key that is taken.
            self.effects[claim.key] += 1
            return Answer(SHAPE, 400, None, ErrorFacts(type="invalid_request_error", message=claim.key))

        return (await once(self.world.db, claim, self.world.clock.now(), effect)).answer


async def a_paid_payment(world) -> str:
    world.psp.answer = lambda order: Approved("A")
    command = CreatePayment(amount=50_000, currency="eur", confirm=True, payment_method=world.card())
    return (await create(world.services, world.claim(), command)).answer.root.id


def answers_of(outcomes: Sequence[Outcome]):
    """A PSP that says these in turn, knows nothing of what it did not definitely do, and acknowledges reversals."""
    said = cycle(outcomes)

    def answer(order):
        if order.operation is Operation.QUERY:
            return NotFound()
        return Approved("R") if order.operation is Operation.REVERSAL else next(said)

    return answer


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(happens=st.lists(rounds, min_size=1, max_size=8), outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8))
async def test_requests_in_any_order_have_one_effect_and_one_answer_for_each_key(world, happens: list[Round], outcomes: list[Outcome]):
    """Payments, refunds and plain commands share keys, repeat, overlap, mean something else, and come days later."""
    told = Told(world, await a_paid_payment(world))
    before = await world.db.fetchval("SELECT count(*) FROM payment")
    world.psp.answer = answers_of(outcomes)
    for one in happens:
        await asyncio.gather(*(told.request(number, what) for number, what in one.requests))
        world.clock.advance(one.pause * SECOND)
    assert all(len(found) == 1 for found in told.answers.values())
    assert all(what not in told.refused[key] for key, what in told.first.items()), "the same request was told that it is another one"
    assert await world.db.fetchval("SELECT count(*) FROM payment") - before == sum(what == PAY for what in told.first.values())
    assert await world.db.fetchval("SELECT count(*) FROM refund WHERE payment = $1", told.paid) == sum(
        what == REFUND for what in told.first.values()
    )
    # In the end the PSP knows everything: what it has forgotten, nobody could ever settle.
    world.psp.answer = lambda order: Approved("A")

    async def at_rest():
        world.clock.advance(70 * SECOND)
        return not await world.db.fetchval("SELECT count(*) FROM attempt_open WHERE state <> 'recheck'")

    await world.until(at_rest)
    for key, found in told.answers.items():
        assert {await told.ask(key, told.first[key])} == found
    assert all(times == 1 for times in told.effects.values())
    await world.books_agree()
