"""A PSP of the class key+query+void: it does a request once however often it comes, and remembers reversals in advance."""

from random import Random

from guilder.core.outcome import Approved, Declined, NotFound, Outcome, Unknown
from guilder.psp.model import Operation, Order

DECLINED = Declined("generic_decline", "05")


class Bank:
    """What the PSP has done, by reference. It counts effects, whatever we believe of them."""

    def __init__(self, chance: Random) -> None:
        self.amounts: dict[str, tuple[Operation, int, str]] = {}
        self.undone: set[str] = set()
        self.declined: set[str] = set()
        self.reversed_early: set[str] = set()
        self.requests = 0
        # Probability of a decline, of an error before and after the effect, and of another amount being told.
        self.declines = 0.1
        self.errors = 0.03
        self.wrong = 0.02
        self._chance = chance
        self._acts_on: dict[str, str] = {}

    def stands(self, reference: str) -> bool:
        """Whether this was done and not undone."""
        return reference in self.amounts and reference not in self.undone

    def carry_out(self, order: Order) -> Outcome | NotFound:
        """Do what is asked, and answer as the connector would understand it."""
        self.requests += 1
        if order.operation is Operation.QUERY:
            return self._told(order.reference, order)
        if order.operation is Operation.REVERSAL:
            original = order.original.reference if order.original else ""
            if original in self.amounts:
                self.undone.add(original)
            else:
                self.reversed_early.add(original)
            return Approved(order.reference)
        if self._chance.random() < self.errors:
            return Unknown("psp_error")
        reference = order.reference
        if reference not in self.amounts and reference not in self.declined:
            self._decide(order)
        if self._chance.random() < self.errors:
            return Unknown("psp_error")
        return self._told(reference, order)

    def _decide(self, order: Order) -> None:
        refused = order.reference in self.reversed_early or not self._possible(order)
        if refused or self._chance.random() < self.declines:
            self.declined.add(order.reference)
        else:
            # A PSP that does something else than it was asked for: of a new payment only, which can be taken back.
            wrong = order.original is None and self._chance.random() < self.wrong
            self.amounts[order.reference] = (order.operation, order.amount_minor + wrong, order.currency)
            if order.original is not None:
                self._acts_on[order.reference] = order.original.reference

    def _possible(self, order: Order) -> bool:
        """A capture, void or refund needs something that it acts on; more than was taken is not given back."""
        if order.original is None:
            return True
        original = order.original.reference
        if not self.stands(original):
            return False
        if order.operation is Operation.VOID:
            return not self._following(order, Operation.CAPTURE)
        taken = self.amounts[original][1]
        back = sum(self.amounts[one][1] for one in self._following(order, Operation.REFUND))
        return order.operation is not Operation.REFUND or back + order.amount_minor <= taken

    def _following(self, order: Order, operation: Operation) -> list[str]:
        original = order.original.reference if order.original else ""
        standing = [one for one, (kind, *_) in self.amounts.items() if kind is operation and self.stands(one)]
        return [one for one in standing if self._acts_on.get(one) == original]

    def _told(self, reference: str, order: Order) -> Outcome | NotFound:
        if reference in self.declined:
            return DECLINED
        if reference not in self.amounts:
            return NotFound()
        if not self.stands(reference):
            return Declined("processing_error", "00", "reversed")
        _, amount, currency = self.amounts[reference]
        return Approved(reference) if (amount, currency) == (order.amount_minor, order.currency) else Unknown("mismatch")
