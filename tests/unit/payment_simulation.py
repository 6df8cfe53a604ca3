"""One payment and its bank in memory: the real decisions (settle, resume, begin), with a store, a ledger and a PSP as models.

The store applies a change whole, as `payments_flush` does, and refuses what its guards refuse. The PSP is of the class
key+query+void: it does a request once however often it comes, knows what it has done, and remembers reversals, also of
what it has not seen yet. Nothing here waits; whoever drives it decides what is lost, late or twice.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from chaos.simulation.books import held, wallet
from msgspec.structs import replace

from guilder.core.clock import DAY, HOUR, ManualClock
from guilder.core.ids import Ids
from guilder.core.outcome import ActionRequired, Approved, Authentication, Declined, NotFound, NotSent, Outcome, Unknown
from guilder.ledger.model import AccountKey, Transfer
from guilder.ledger.pure import Book, PureAccount
from guilder.payments.begin import Try, follow, take
from guilder.payments.cancel import void
from guilder.payments.challenge import abandoned, asked, discarded
from guilder.payments.model import (
    NEW_PAYMENTS,
    PAYMENT_SLOT,
    Attempt,
    Change,
    Key,
    OpenSlot,
    Payment,
    Terms,
    Till,
    challenge_slot,
)
from guilder.payments.recheck import may_be_news, reopened
from guilder.payments.refund import offered
from guilder.payments.refunds import counted
from guilder.payments.resume import next_step, resend
from guilder.payments.secure import Challenge
from guilder.payments.settle import settle
from guilder.payments.settling import Settling
from guilder.payments.states import FINAL_ATTEMPT_STATES, PAYMENT, AttemptState, PaymentEvent, PaymentState, after, allows
from guilder.payments.till import too_late
from guilder.psp.model import ContractClass, Declares, Operation, Order
from guilder.psp.router import Choice
from guilder.shapes.facts import Answer, CardFacts, PaymentIntentFacts, PaymentMethodFacts, RefundFacts
from guilder.wallet.chart import AccountKind

ACCOUNT = "acct_simulated"
OVERDRAFT = 100_000
ROUNDS_MAX = 500
# What may happen to a request.
FATES = (
    "answered", "answered", "declined", "answer lost", "answer late", "request lost", "request late", "request late", "not written",
    "mismatch", "sender lost",
)  # fmt: skip
DECLARES = Declares(
    contract_class=ContractClass.KEY_QUERY_VOID, idempotency_window_seconds=24 * 3600, partial_capture=True, multiple_capture=False,
    currencies=None, three_d_secure=False, remembers_reversals=True, finality_horizon_seconds=24 * 3600,
)  # fmt: skip
# How long a request may be sent again, and how long after its last sending it may still arrive.
WINDOW = HORIZON = 1 * DAY
# What an issuer makes of a buyer: it may want to see him, and then.
ISSUERS = ("pays", "frictionless", "challenge", "failed", "unavailable")
WANTS = Declined("authentication_required", "65", wants_authentication=True)
CARD = CardFacts("visa", "4242", 12, 2040, "fingerprint", iin="424242")


@dataclass
class Bank:
    """What the PSP has done, by reference: True for approved and not undone."""

    done: dict[str, bool] = field(default_factory=dict)
    declined: set[str] = field(default_factory=set)
    amounts: dict[str, tuple[str, int]] = field(default_factory=dict)
    reversed_early: set[str] = field(default_factory=set)
    issuer: str = "pays"
    soft: set[str] = field(default_factory=set)
    authentications: dict[str, str] = field(default_factory=dict)
    proved: set[str] = field(default_factory=set)

    def carry_out(self, order: Order, *, decline: bool) -> Outcome | NotFound:
        """Do what a request asks for, once, and answer it."""
        match order.operation:
            case Operation.QUERY if order.original.operation is Operation.AUTHENTICATE:
                return self._authentication(order.reference) if order.reference in self.authentications else NotFound()
            case Operation.QUERY:
                return self._found(order.reference)
            case Operation.AUTHENTICATE:
                self.authentications.setdefault(order.reference, self.issuer)
                return self._authentication(order.reference)
            case Operation.REVERSAL:
                original = order.original.reference
                if original in self.done:
                    self.done[original] = False
                else:
                    self.reversed_early.add(original)
                return Approved(order.reference)
        reference = order.reference
        if reference in self.reversed_early or reference in self.declined:
            return WANTS if reference in self.soft else Declined("processing_error", "79")
        if reference not in self.done:
            if order.operation in NEW_PAYMENTS and self.issuer != "pays" and not self._proves(order.proof):
                self.declined.add(reference)
                self.soft.add(reference)
                return WANTS
            if decline:
                self.declined.add(reference)
                return Declined("generic_decline", "05")
            self.done[reference] = True
            self.amounts[reference] = (order.operation, order.amount_minor)
        return self._found(reference)

    def _proves(self, proof: str | None) -> bool:
        """Each proof holds once."""
        if proof is None or proof in self.proved or self.authentications.get(proof) != "frictionless":
            return False
        self.proved.add(proof)
        return True

    def _authentication(self, reference: str) -> Outcome:
        match self.authentications[reference]:
            case "frictionless":
                return Approved(reference, authentication=Authentication(reference))
            case "challenge":
                return ActionRequired("http://bank/challenge")
            case "failed":
                return Declined("authentication_failed")
        return Declined("authentication_unavailable")

    def _found(self, reference: str) -> Outcome | NotFound:
        if reference in self.declined:
            return WANTS if reference in self.soft else Declined("generic_decline", "05")
        if reference not in self.done:
            return NotFound()
        return Approved(reference) if self.done[reference] else Declined("processing_error", "00", "reversed")


class Simulation:
    """A payment with everything that belongs to it."""

    def __init__(self, *, amount: int, manual: bool, seed: int = 0, issuer: str = "pays", asks: bool = False, till: bool = False) -> None:
        self.clock = ManualClock()
        self.ids = Ids(self.clock, Random(seed).randbytes)
        self.bank = Bank(issuer=issuer)
        self.asks = asks
        self.till = Till("tmr_1") if till else None
        # Attempts of which the till was told "not paid".
        self.given_up: set[str] = set()
        self.attempts: dict[str, Attempt] = {}
        self.ended: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        self.in_flight: list[tuple[Order, int]] = []
        self.late: list[tuple[Order, Outcome]] = []
        self.first_sent: dict[str, int] = {}
        self.history = [PaymentState.REQUIRES_PAYMENT_METHOD]
        self.numbers: dict[AccountKey, int] = {}
        self.ledger = Book({})
        self.entries: list[tuple[int, int]] = []
        self.events: list[str] = []
        self._keys = 0
        self.payment = Payment(
            facts=PaymentIntentFacts(
                id=self.ids.new("pi"), livemode=False, created=0, amount=amount, currency="eur", status="requires_payment_method",
                client_secret="secret", capture_method="manual" if manual else "automatic",
            ),
            account=ACCOUNT, version=1,
        )  # fmt: skip

    # --- the merchant -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> PaymentState:
        """Where the payment stands."""
        return PaymentState(self.payment.facts.status)

    def may(self, event: PaymentEvent) -> bool:
        """Whether the table and the slot allow it."""
        return allows(PAYMENT, self.state, event) and self.payment.open_in(PAYMENT_SLOT) is None

    def _key(self) -> Key:
        self._keys += 1
        return Key(f"key-{self._keys}", f"req_{self._keys}")

    def _change(self, facts: PaymentIntentFacts | None = None, **more: object) -> Change:
        payment = self.payment
        return Change(
            account=ACCOUNT, livemode=False, payment=facts or payment.facts, expected=payment.version,
            confirmations=payment.confirmations, **more,
        )  # fmt: skip

    def confirm(self) -> None:
        """Send it."""
        try_ = Try(
            payment_method=PaymentMethodFacts(id=self.ids.new("pm"), livemode=False, created=0, card=CARD),
            choice=Choice("cardnet", "M1", "first"), terms=Terms(1, 150), send_cvc=False,
            authenticate="any" if self.asks and not self.till else None, origin="http://checkout", till=self.till,
        )  # fmt: skip
        facts, attempt = take(self.payment.facts, try_, self._key(), account=ACCOUNT, now=self.clock.now(), ids=self.ids)
        assert self.commit(self._change(facts, attempts=(attempt,), challenges=discarded(self.payment)))

    def till_is_told(self) -> None:
        """Its time is over: what is open is closed, and only then it hears "not paid"."""
        open_ = self.payment.open_in(PAYMENT_SLOT)
        attempt = self.attempts[open_.attempt]
        # Whoever holds it here may have sent it; nobody's is certainly not sent.
        held = OpenSlot(open_.slot, open_.attempt, open_.state, "held" if attempt.id in self.first_sent else None, open_.tries, open_.key)
        assert self.commit(too_late(self.payment, attempt, held, now=self.clock.now(), ids=self.ids))
        assert self.answers[attempt.facts.key.key].error is not None
        self.given_up.add(attempt.id)

    def may_be_told(self) -> bool:
        """Whether a till waits for what is open, and has not heard of it yet."""
        open_ = self.payment.open_in(PAYMENT_SLOT)
        attempt = self.attempts[open_.attempt] if open_ is not None else None
        return attempt is not None and attempt.operation in NEW_PAYMENTS and attempt.facts.key.key not in self.answers

    def buyer_answers(self, *, passed: bool) -> None:
        """At his bank; the first answer counts."""
        reference = self.attempts[self.payment.challenge.attempt].facts.wire.reference
        if self.bank.authentications[reference] == "challenge":
            self.bank.authentications[reference] = "frictionless" if passed else "failed"

    def buyer_is_back(self) -> None:
        """His bank is to be asked."""
        if self.payment.open_in(challenge_slot(self.payment.challenge.attempt)) is None:
            assert self.commit(asked(self.payment, self.payment.challenge, self.clock.now()))

    def buyer_has_gone(self) -> None:
        """He has not come back in time."""
        assert self.commit(abandoned(self.payment, self.attempts[self.payment.challenge.attempt], ids=self.ids))

    def leave(self, event: PaymentEvent) -> None:
        """Cancel, or another amount, while the buyer is away."""
        facts = replace(self.payment.facts, status=after(PAYMENT, self.state, event), next_action_url=None)
        assert self.commit(self._change(facts, challenges=discarded(self.payment)))

    def capture(self, amount: int) -> None:
        """Take a part of what is authorized."""
        attempt = follow(self.payment, Operation.CAPTURE, amount, self._key(), now=self.clock.now(), ids=self.ids)
        facts = replace(self.payment.facts, status=after(PAYMENT, self.state, PaymentEvent.CAPTURE_SENT))
        assert self.commit(self._change(facts, attempts=(attempt,)))

    def void(self) -> None:
        """Give the authorization up."""
        assert self.commit(void(self.payment, None, self._key(), None, now=self.clock.now(), ids=self.ids))

    @property
    def refundable(self) -> int:
        """What can still be given back."""
        charge = self.payment.charge
        return charge.facts.amount_captured - charge.refunded - charge.refunding if charge is not None else 0

    def refund(self, amount: int) -> None:
        """Give a part back."""
        charge, now = self.payment.charge, self.clock.now()
        facts = RefundFacts(
            id=self.ids.new("re"), livemode=False, created=0, amount=amount, currency="eur", status="pending", charge=charge.facts.id,
            payment_intent=self.payment.facts.id,
        )  # fmt: skip
        change = self._change(charges=(counted(charge, refunded=charge.refunded, refunding=charge.refunding + amount),))
        assert self.commit(offered(change, self.payment, facts, self._key(), created=True, now=now, ids=self.ids))

    # --- the executor ---------------------------------------------------------------------------------------------------

    def due(self) -> list[OpenSlot]:
        """What an executor may claim: everything, because nobody here waits for a time."""
        return [slot for slot in self.payment.open_slots if slot.sender is None]

    def lose_sender(self, slot: OpenSlot) -> None:
        """It was claimed, and its sender is taken over from: what had begun is in doubt."""
        if slot.state == AttemptState.CREATED:
            slots = tuple(replace_slot(one, "in_doubt") if one is slot else one for one in self.payment.open_slots)
            self.payment = replace(self.payment, open_slots=slots)

    def order(self, slot: OpenSlot, *, now: int | None = None) -> Order | Outcome:
        """What is to be sent for an open attempt, or what is known of it already."""
        self.first_sent.setdefault(slot.attempt, self.clock.now())
        return next_step(self.attempts[slot.attempt], slot.state, slot.tries, self.clock.now() if now is None else now)

    def again(self, attempt: Attempt) -> Order | None:
        """The resend after "not found"."""
        return resend(attempt, DECLARES, self.clock.now())

    def settle(self, slot: OpenSlot, asked: Operation, outcome: Outcome | NotFound) -> None:
        """Book an outcome, as the executor does: on the payment as it is now."""
        attempt = self.attempts[slot.attempt]
        open_ = next((one for one in self.payment.open_slots if one.attempt == attempt.id), None)
        if open_ is None:
            if may_be_news(self.payment, attempt, asked, outcome):
                assert self.commit(reopened(self.payment, attempt, self.clock.now()))
                self.settle(slot, asked, outcome)
            return
        settling = Settling(
            payment=self.payment, attempt=attempt, open=open_, asked=asked, now=self.clock.now(), ids=self.ids,
            origin="http://checkout", authenticates=True,
            horizon=max(self.first_sent.get(attempt.id, 0), attempt.created_at + WINDOW) + HORIZON,
        )  # fmt: skip
        assert self.commit(settle(settling, outcome))
        if self.ended.get(attempt.id) == AttemptState.UNDONE and not any(one.attempt == attempt.id for one in self.payment.open_slots):
            # Nothing stays on the wire for longer than it is asked about.
            self.in_flight = [(order, sent) for order, sent in self.in_flight if order.attempt_id != attempt.id]

    def pass_time(self, micros: int) -> None:
        """Also beyond the horizon, while requests are on the wire."""
        self.clock.advance(micros)

    def run_dry(self) -> None:
        """With a bank that answers everything: until nothing is open any more."""
        for number in range(ROUNDS_MAX):
            while self.in_flight:
                self.request_arrives(0, decline=False, answered=False)
            while self.late:
                self.answer_arrives(0)
            slots = self.due()
            if not slots:
                return
            self.clock.advance(HOUR)
            # In turns: a fact that was found may wait for what another attempt did.
            self.step(slots[number % len(slots)], "answered", "answered")
        raise AssertionError(f"it does not come to an end: {self.payment.open_slots}")

    # --- the store ------------------------------------------------------------------------------------------------------

    def commit(self, change: Change) -> bool:
        """Apply a change whole; False when a guard refuses it."""
        payment = self.payment
        assert change.expected == payment.version
        slots = {one.slot: one for one in payment.open_slots}
        for move in change.moves:
            standing = slots.get(move.slot)
            assert standing is not None
            assert (standing.attempt, standing.state) == (move.attempt, move.before)
            attempt = self.attempts[move.attempt]
            if move.noted is not None:
                self.attempts[move.attempt] = replace(attempt, noted=move.noted)
            if move.after in FINAL_ATTEMPT_STATES:
                del slots[move.slot]
                if move.after == AttemptState.APPROVED:
                    self.ended[move.attempt] = move.after
                self.ended.setdefault(move.attempt, move.after)
            else:
                slots[move.slot] = OpenSlot(move.slot, move.attempt, move.after, None, move.tries, standing.key)
        for attempt in change.attempts:
            assert attempt.slot not in slots, "one open operation of a slot"
            self.attempts[attempt.id] = attempt
            slots[attempt.slot] = OpenSlot(attempt.slot, attempt.id, "created", None, 0, attempt.facts.key)
        for one in change.reopened:
            assert one.slot not in slots
            slots[one.slot] = OpenSlot(one.slot, one.attempt, one.state, None, 0)
        challenge = self._challenge_after(change)
        self._book(change.transfers)
        self.entries += [(one.facts.amount, one.facts.fee) for one in change.balance_transactions]
        self.events += [one.type for one in change.events]
        if change.answers is not None and change.answer is not None:
            self.answers.setdefault(change.answers.key, change.answer)
        charges = {one.facts.id: one for one in payment.charges} | {one.facts.id: one for one in change.charges}
        refunds = {one.facts.id: one for one in payment.refunds} | {one.facts.id: one for one in change.refunds}
        approved = [self.attempts[id_] for id_, state in self.ended.items() if state == AttemptState.APPROVED]
        if change.payment.status != payment.facts.status:
            self.history.append(PaymentState(change.payment.status))
        self.payment = Payment(
            facts=change.payment, account=ACCOUNT, version=payment.version + 1, confirmations=change.confirmations,
            charges=tuple(charges.values()), refunds=tuple(refunds.values()), open_slots=tuple(slots.values()),
            charge=next((one for one in charges.values() if one.facts.status == "succeeded"), None),
            authorized_by=next((one for one in approved if one.operation in NEW_PAYMENTS), None),
            captured_by=next((one for one in approved if one.operation is Operation.CAPTURE), None),
            approved=tuple(one.id for one in approved), challenge=challenge,
        )  # fmt: skip
        return True

    def _challenge_after(self, change: Change) -> Challenge | None:
        """The open challenge once this change is stored."""
        challenge = self.payment.challenge
        for moved in change.challenges:
            if moved.opened is not None:
                assert challenge is None, "one open challenge of a payment"
                challenge = moved.opened
            elif moved.after is not None:
                assert challenge is not None
                assert (challenge.id, challenge.state) == (moved.id, moved.before)
                challenge = None
        return challenge

    def _book(self, transfers: tuple[Transfer, ...]) -> None:
        booked = [
            replace(one, debit=self._number(one.debit), credit=self._number(one.credit), linked=one is not transfers[-1])
            for one in transfers
        ]
        refused = self.ledger.book(booked, self.clock.now())
        assert refused == [], "the ledger refuses a fact"

    def _number(self, side: AccountKey | int) -> int:
        if not isinstance(side, AccountKey):
            return side
        if side not in self.numbers:
            self.numbers[side] = number = len(self.numbers) + 1
            limited = side.kind in (AccountKind.PENDING, AccountKind.AVAILABLE)
            self.ledger.accounts[number] = PureAccount(currency="eur", debits_limited=limited, overdraft=OVERDRAFT)
        return self.numbers[side]

    def suffer(self, slot: OpenSlot, order: Order, fate: str) -> Outcome | NotFound | None:
        """Send a request that has this fate; returns what the connector delivers, None when nobody is there to be told."""
        match fate:
            case "not written":
                return NotSent("connect") if order.first else Unknown("connect")
            case "sender lost":
                self.lose_sender(slot)
                return None
            case "request lost":
                return Unknown("timeout")
            case "request late":
                self.in_flight.append((order, self.clock.now()))
                return Unknown("timeout")
            case "answer lost":
                self.bank.carry_out(order, decline=False)
                return Unknown("timeout")
            case "answer late":
                self._answer_late(order, self.bank.carry_out(order, decline=False))
                return Unknown("timeout")
            case "mismatch":
                outcome = self.bank.carry_out(order, decline=False)
                wrong = isinstance(outcome, Approved) and order.operation is not Operation.REVERSAL
                return Unknown("mismatch") if wrong else outcome
        return self.bank.carry_out(order, decline=fate == "declined")

    def step(self, slot: OpenSlot, fate: str, fate_of_resend: str) -> None:
        """One request about one open attempt, and the resend where that follows at once."""
        attempt = self.attempts[slot.attempt]
        order = self.order(slot, now=attempt.created_at)
        if not isinstance(order, Order):
            self.settle(slot, attempt.operation, order)
            return
        outcome = self.suffer(slot, order, fate)
        if isinstance(outcome, NotFound) and slot.state == AttemptState.IN_DOUBT and (again := self.again(attempt)):
            order, outcome = again, self.suffer(slot, again, fate_of_resend)
        if outcome is not None:
            self.settle(slot, order.operation, outcome)

    def request_arrives(self, place: int, *, decline: bool, answered: bool) -> None:
        """A request that was under way arrives after all; its answer may come through or not."""
        order, _ = self.in_flight.pop(place)
        outcome = self.bank.carry_out(order, decline=decline)
        if answered:
            self._answer_late(order, outcome)

    def answer_arrives(self, place: int) -> None:
        """A late answer arrives, whoever holds the row by now."""
        order, outcome = self.late.pop(place)
        self.settle(OpenSlot("", order.attempt_id, "", None, 0), order.operation, outcome)

    def _answer_late(self, order: Order, outcome: Outcome | NotFound) -> None:
        # The acknowledgement of a reversal is told to nobody who has given it up: the reversal is repeated.
        if isinstance(outcome, Approved | Declined) and order.operation is not Operation.REVERSAL:
            self.late.append((order, outcome))

    # --- what must hold -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """At every moment."""
        payment, charge = self.payment, self.payment.charge
        for before, state in pairwise(self.history):
            assert state in PAYMENT[before].values(), (before, state)
        assert (self.state is PaymentState.PROCESSING) == (payment.open_in(PAYMENT_SLOT) is not None)
        assert (self.state is PaymentState.REQUIRES_ACTION) == (payment.challenge is not None) == (payment.facts.next_action_url is not None)
        assert sum(one.facts.status == "succeeded" for one in payment.charges) <= 1
        taken = charge.facts.amount_captured if charge is not None and charge.facts.captured else 0
        assert payment.facts.amount_received == taken <= payment.facts.amount
        if charge is not None:
            assert min(charge.refunded, charge.refunding) >= 0
            assert charge.refunded + charge.refunding <= taken
        assert wallet(self.ledger, self.numbers) == sum(amount - fee for amount, fee in self.entries)
        assert not self.given_up & set(payment.approved), "the till was told that it is not paid"
        unseen = {order.reference for order, _ in (*self.late, *self.in_flight)}
        opened = {slot.attempt for slot in payment.open_slots}
        for id_, state in self.ended.items():
            reference = self.attempts[id_].facts.wire.reference
            if state in ("declined", "not_sent") and reference not in unseen and id_ not in opened:
                assert not self.bank.done.get(reference, False), f"shown as {state}, and the bank holds it as approved"

    def check_end(self) -> None:
        """When nothing is open any more: the bank's truth is what the books say."""
        self.check()
        for id_, attempt in self.attempts.items():
            if attempt.operation is Operation.AUTHENTICATE:
                continue
            approved = self.ended[id_] == AttemptState.APPROVED
            assert self.bank.done.get(attempt.facts.wire.reference, False) == approved, (attempt.operation, self.ended[id_])
        done = [one.operation for one in self.attempts.values() if self.ended[one.id] == AttemptState.APPROVED]
        paid_back = sum(amount for reference, (operation, amount) in self.bank.amounts.items() if operation == "refund" and self.bank.done[reference])
        assert sum(amount for amount, _ in self.entries) == self.payment.facts.amount_received - paid_back
        assert sum(one in NEW_PAYMENTS for one in done) <= 1
        assert sum(one in (Operation.PURCHASE, Operation.CAPTURE) for one in done) <= 1
        assert held(self.ledger) == (self.payment.facts.amount if self.state is PaymentState.REQUIRES_CAPTURE else 0)
        assert all(one.facts.key.key in self.answers for one in self.attempts.values() if one.facts.key)


def replace_slot(slot: OpenSlot, state: str) -> OpenSlot:
    """The slot in another state."""
    return OpenSlot(slot.slot, slot.attempt, state, slot.sender, slot.tries, slot.key)

