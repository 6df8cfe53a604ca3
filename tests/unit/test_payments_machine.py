"""A payment through everything that can be lost, late, doubled or declined: chance chooses, the invariants must hold.

What decides here is the real code (begin, resume, settle, refunds, books); store, ledger and PSP are the models of
payment_simulation.py. Each run ends with a bank that answers, and then the bank's truth must be what the books say.
"""

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from payment_simulation import FATES, ISSUERS, Simulation

from guilder.core.clock import MINUTE
from guilder.payments.states import PaymentEvent

WALKS, STEPS = 400, 40


class PaymentMachine(RuleBasedStateMachine):
    """One payment, driven by hypothesis, which shrinks what it finds."""

    @initialize(
        amount=st.integers(50, 100_000), manual=st.booleans(), seed=st.integers(0, 2**32), issuer=st.sampled_from(ISSUERS),
        asks=st.booleans(),
    )
    def begin(self, amount: int, manual: bool, seed: int, issuer: str, asks: bool) -> None:
        """A new payment."""
        self.world = Simulation(amount=amount, manual=manual, seed=seed, issuer=issuer, asks=asks)

    @precondition(lambda self: self.world.payment.challenge)
    @rule(passed=st.booleans())
    def the_buyer_answers_his_bank(self, passed: bool) -> None:
        """Yes or no; the first answer counts."""
        self.world.buyer_answers(passed=passed)

    @precondition(lambda self: self.world.payment.challenge)
    @rule()
    def the_buyer_is_back(self) -> None:
        """With or without an answer."""
        self.world.buyer_is_back()

    @precondition(lambda self: self.world.payment.challenge)
    @rule()
    def the_buyer_has_gone(self) -> None:
        """The wait is over, whatever his bank has been told."""
        self.world.buyer_has_gone()

    @precondition(lambda self: self.world.payment.challenge)
    @rule(event=st.sampled_from((PaymentEvent.CANCELED, PaymentEvent.CHANGED, PaymentEvent.METHOD_GIVEN)))
    def the_merchant_moves_on(self, event: PaymentEvent) -> None:
        """While the buyer is with his bank."""
        self.world.leave(event)

    @precondition(lambda self: self.world.may(PaymentEvent.CONFIRMED))
    @rule()
    def confirm(self) -> None:
        """Try to take it."""
        self.world.confirm()

    @precondition(lambda self: self.world.may(PaymentEvent.CAPTURE_SENT))
    @rule(data=st.data())
    def capture(self, data: st.DataObject) -> None:
        """In part or whole."""
        self.world.capture(data.draw(st.integers(1, self.world.payment.facts.amount_capturable)))

    @precondition(lambda self: self.world.may(PaymentEvent.CANCEL_SENT))
    @rule()
    def void(self) -> None:
        """Give it up."""
        self.world.void()

    @precondition(lambda self: self.world.refundable > 0)
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        """In part or whole, several at once."""
        self.world.refund(data.draw(st.integers(1, self.world.refundable)))

    @rule(minutes=st.sampled_from((1, 20, 3_000)))
    def time_passes(self, minutes: int) -> None:
        """Also beyond the PSP's idempotency window and its horizon."""
        self.world.pass_time(minutes * MINUTE)

    @precondition(lambda self: self.world.due())
    @rule(data=st.data(), fate=st.sampled_from(FATES), fate_of_resend=st.sampled_from(FATES))
    def step(self, data: st.DataObject, fate: str, fate_of_resend: str) -> None:
        """One request about one open attempt, with its fate."""
        self.world.step(data.draw(st.sampled_from(self.world.due())), fate, fate_of_resend)

    @precondition(lambda self: self.world.in_flight)
    @rule(data=st.data(), decline=st.booleans(), answered=st.booleans())
    def a_request_arrives_late(self, data: st.DataObject, decline: bool, answered: bool) -> None:
        """After whatever has been asked, reversed or sent again meanwhile."""
        self.world.request_arrives(data.draw(st.integers(0, len(self.world.in_flight) - 1)), decline=decline, answered=answered)

    @precondition(lambda self: self.world.late)
    @rule(data=st.data())
    def an_answer_arrives_late(self, data: st.DataObject) -> None:
        """It counts, whoever holds the row by now; in a slot that reverses it is only noted."""
        self.world.answer_arrives(data.draw(st.integers(0, len(self.world.late) - 1)))

    @invariant()
    def it_holds(self) -> None:
        """States, amounts, wallet, and nothing shown as failed that the bank holds as approved."""
        self.world.check()

    def teardown(self) -> None:
        """The bank answers again: everything ends, and its truth is what the books say."""
        if hasattr(self, "world"):
            self.world.run_dry()
            self.world.check_end()


PaymentMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
TestPaymentMachine = PaymentMachine.TestCase


@pytest.mark.parametrize("seed", range(10))
def test_a_payment_on_a_bad_wire_ends_as_the_bank_has_it(seed: int) -> None:
    """Many random walks that keep to the executor's side, where the deep sequences are: late, reversed, late again."""
    for walk in range(WALKS):
        chance = Random(f"{seed}.{walk}")
        world = Simulation(amount=chance.randint(50, 100_000), manual=chance.random() < 0.5, seed=seed)
        for _ in range(STEPS):
            act(world, chance)
            world.check()
        world.run_dry()
        world.check_end()


@pytest.mark.parametrize("seed", range(10))
def test_a_payment_whose_buyer_is_to_be_authenticated_is_charged_with_a_proof_or_not_at_all(seed: int) -> None:
    """The same bad wire, with a bank that wants to see the buyer, and a buyer who does what buyers do."""
    for walk in range(WALKS):
        chance = Random(f"secure {seed}.{walk}")
        issuer = chance.choice(ISSUERS[1:])
        world = Simulation(
            amount=chance.randint(50, 100_000), manual=chance.random() < 0.5, seed=seed, issuer=issuer, asks=chance.random() < 0.5,
        )  # fmt: skip
        for _ in range(STEPS):
            act_as_buyer(world, chance) if world.payment.challenge and chance.random() < 0.5 else act(world, chance)
            world.check()
        world.run_dry()
        world.check_end()


@pytest.mark.parametrize("seed", range(10))
def test_a_till_that_was_told_not_paid_is_never_charged(seed: int) -> None:
    """The same bad wire, and a till that waits no longer at any moment: no answer approves it after that."""
    for walk in range(WALKS):
        chance = Random(f"till {seed}.{walk}")
        world = Simulation(amount=chance.randint(50, 100_000), manual=chance.random() < 0.3, seed=seed, till=True)
        for _ in range(STEPS):
            world.till_is_told() if world.may_be_told() and chance.random() < 0.3 else act(world, chance)
            world.check()
        world.run_dry()
        world.check_end()


def act_as_buyer(world: Simulation, chance: Random) -> None:
    """He answers, comes back, goes away; or the merchant does not wait for him."""
    luck = chance.random()
    if luck < 0.4:
        world.buyer_answers(passed=luck < 0.3)
    elif luck < 0.8:
        world.buyer_is_back()
    elif luck < 0.9:
        world.buyer_has_gone()
    else:
        world.leave(chance.choice((PaymentEvent.CANCELED, PaymentEvent.CHANGED)))


@pytest.mark.parametrize("seed", range(10))
def test_what_arrives_after_the_horizon_is_found_and_put_right(seed: int) -> None:
    """Captures, voids and refunds that were closed as undone: taken back, or booked as the facts that they are."""
    for walk in range(WALKS):
        chance = Random(f"horizon {seed}.{walk}")
        world = Simulation(amount=chance.randint(50, 100_000), manual=chance.random() < 0.7, seed=seed)
        world.confirm()
        world.step(world.due()[0], "answered", "answered")
        for _ in range(STEPS):
            act_on_what_follows(world, chance)
            world.check()
        world.run_dry()
        world.check_end()


def act_on_what_follows(world: Simulation, chance: Random) -> None:
    """Requests that are late by days, questions that find nothing meanwhile, and what the merchant does then."""
    luck = chance.random()
    if luck < 0.12 and world.in_flight:
        world.request_arrives(chance.randrange(len(world.in_flight)), decline=chance.random() < 0.2, answered=chance.random() < 0.3)
    elif luck < 0.2 and world.late:
        world.answer_arrives(chance.randrange(len(world.late)))
    elif luck < 0.4:
        world.pass_time(3_000 * MINUTE)
    elif luck < 0.85 and world.due():
        world.step(chance.choice(world.due()), chance.choice(("request late", "request late", "answered", "declined")), "request late")
    elif world.may(PaymentEvent.CAPTURE_SENT):
        world.void() if luck > 0.93 else world.capture(chance.randint(1, world.payment.facts.amount_capturable))
    elif world.refundable:
        world.refund(chance.randint(1, world.refundable))


def act(world: Simulation, chance: Random) -> None:
    """Something happens: mostly to what is under way."""
    luck = chance.random()
    if luck < 0.25 and world.in_flight:
        place = chance.randrange(len(world.in_flight))
        world.request_arrives(place, decline=chance.random() < 0.2, answered=chance.random() < 0.7)
    elif luck < 0.4 and world.late:
        world.answer_arrives(chance.randrange(len(world.late)))
    elif luck < 0.85 and world.due():
        world.step(chance.choice(world.due()), chance.choice(FATES), chance.choice(FATES))
    elif world.may(PaymentEvent.CONFIRMED):
        world.confirm()
    elif world.may(PaymentEvent.CAPTURE_SENT):
        world.void() if luck > 0.93 else world.capture(chance.randint(1, world.payment.facts.amount_capturable))
    elif world.refundable:
        world.refund(chance.randint(1, world.refundable))
    else:
        world.pass_time(chance.choice((1, 20, 3_000)) * MINUTE)
