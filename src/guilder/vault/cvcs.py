"""CVCs: in this process's memory only, for at most 15 minutes, never anywhere else (PCI DSS 3.3.1; DESIGN section 2.4)."""

from typing import Final

from guilder.core.clock import MINUTE, SECOND, Clock
from guilder.security import Secret

# From its entry on; a payment that is still not authorized by then asks the payer again.
CVC_LIFE_MICROS: Final = 15 * MINUTE
# Bounds the memory under a flood of entries: about 30 MB. The oldest go first.
CVCS_MAX: Final = 100_000


class _Kept:
    """One CVC in bytes that can be overwritten, and when it was entered by both clocks."""

    __slots__ = ("_digits", "_entered_boot", "_entered_now", "spent")

    def __init__(self, cvc: Secret, clock: Clock) -> None:
        self._digits = bytearray(cvc.reveal().encode())
        self._entered_now = clock.now()
        self._entered_boot = clock.boot()
        self.spent = False

    def is_over(self, clock: Clock) -> bool:
        """By business time, which can be moved forward, or by the time since boot, which nobody can set back."""
        return (
            clock.now() - self._entered_now >= CVC_LIFE_MICROS
            or clock.boot() - self._entered_boot >= CVC_LIFE_MICROS / SECOND
        )

    def read(self) -> Secret:
        return Secret(self._digits.decode())

    def wipe(self) -> None:
        for index in range(len(self._digits)):
            self._digits[index] = 0


class CvcMemory:
    """CVCs by PaymentMethod id. Insertion order is the order of entry, so the oldest stand in front."""

    def __init__(self, clock: Clock, kept_max: int = CVCS_MAX) -> None:
        self._clock = clock
        self._kept_max = kept_max
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, payment_method_id: str, cvc: Secret) -> None:
        """Keep a CVC from now on; an earlier one of the same PaymentMethod goes."""
        self.drop(payment_method_id)
        while len(self._kept) >= self._kept_max:
            self.drop(next(iter(self._kept)))
        self._kept[payment_method_id] = _Kept(cvc, self._clock)

    def read(self, payment_method_id: str) -> Secret | None:
        """The CVC, which stays; None when there is none or its time is over."""
        kept = self._kept.get(payment_method_id)
        if kept is None:
            return None
        if kept.is_over(self._clock):
            self.drop(payment_method_id)
            return None
        return None if kept.spent else kept.read()

    def spend(self, payment_method_id: str) -> None:
        """Wipe a CVC that an authorization has carried to a definite answer; only that it was there is remembered."""
        kept = self._kept.get(payment_method_id)
        if kept is not None:
            kept.wipe()
            kept.spent = True

    def is_spent(self, payment_method_id: str) -> bool:
        """Whether this PaymentMethod's CVC has been used up, rather than lost; it then goes on as a saved card does."""
        kept = self._kept.get(payment_method_id)
        return kept is not None and kept.spent

    def drop(self, payment_method_id: str) -> None:
        """Forget a CVC, if it is there."""
        kept = self._kept.pop(payment_method_id, None)
        if kept is not None:
            kept.wipe()

    def sweep(self) -> int:
        """Forget all whose time is over, and say how many; the server calls it on a timer."""
        over = []
        for payment_method_id, kept in self._kept.items():
            if not kept.is_over(self._clock):
                break
            over.append(payment_method_id)
        for payment_method_id in over:
            self.drop(payment_method_id)
        return len(over)
