"""A lane: what one process has in hand for one endpoint. Pure state: which deliveries are next, and how many may be on their way.

Each endpoint has its own, so a receiver that is slow or dead stops its own lane and nobody else's: the number on their way
grows by one with each success and is halved by each failure (as TCP does), and after several failures in a row the lane
rests, as one does that is asked to. Lanes together never take all there is: each may have at most as many on their way as there are
left for others.
"""

from collections import deque
from typing import Final

from msgspec.structs import replace

from guilder.core.clock import SECOND
from guilder.core.retry import Kind, Retry
from guilder.security import Signer
from guilder.webhooks.model import Next, StoredEndpoint

# On their way at once to one endpoint. At 100 ms an answer this is 640 a second.
WIDTH_MAX: Final = 64
WIDTH_FIRST: Final = 8
# Deliveries that a lane has read ahead; the next are read when half of them are gone. One that fails needs few.
AHEAD_MAX: Final = 256
AHEAD_FAILING: Final = 4
# Retries that a lane takes at once: they must not starve what is new.
DUE_MAX: Final = 32
# After so many failures in a row the lane rests: 1 s, and twice as long after each further one.
FAILURES_MAX: Final = 5
REST: Final = Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=30.0)


class Lane:
    """One endpoint's deliveries in this process.

    Attributes:
        cursor: the number of the last delivery that was read, and has not been given back since.
        leaving: it is to be given to another process as soon as nothing is in hand.
    """

    __slots__ = (
        "asked_until", "cursor", "dropped", "endpoint", "fading", "failures", "flying", "in_hand", "leaving", "queue", "rests_until",
        "rewound", "signer", "stored", "width",
    )  # fmt: skip

    def __init__(self, endpoint: str, done_to: int) -> None:
        self.endpoint = endpoint
        self.cursor = done_to
        self.queue: deque[Next] = deque()
        # Numbers that were taken and whose result is not stored yet; whether each had failed before.
        self.in_hand: dict[int, bool] = {}
        # Those whose result was stored since the last read began: a read may have seen them as they were before.
        self.fading: list[int] = []
        # Those that were taken out of the queue again.
        self.dropped: list[Next] = []
        # Whether the queue was given back since the last read began: what that read brings lies behind what was given back.
        self.rewound = False
        self.flying = 0
        self.width = WIDTH_FIRST
        self.failures = 0
        self.rests_until = 0
        # Until then the receiver has asked to be left alone.
        self.asked_until = 0
        self.leaving = False
        self.stored: StoredEndpoint | None = None
        self.signer: Signer | None = None

    def configure(self, stored: StoredEndpoint, signer: Signer, *, forget_previous: bool) -> None:
        """Take over what the endpoint's row says now. Whoever has changed it, or wants a delivery now, ends its rest.

        `forget_previous`: the secret before the last rotation has ended.
        """
        if self.stored is not None and self.stored.version != stored.version:
            self.failures = self.rests_until = self.asked_until = 0
        self.stored = replace(stored, previous_secret=None, previous_until=None) if forget_previous else stored
        self.signer = signer
        if not self.active:
            self.empty()

    @property
    def active(self) -> bool:
        """Whether anything may be sent at all."""
        return self.stored is not None and self.stored.state == "enabled" and not self.leaving

    @property
    def failing(self) -> bool:
        """Whether so many have failed in a row that it rests between tries."""
        return self.failures >= FAILURES_MAX

    def room(self) -> int:
        """How many more may be read ahead now."""
        ahead = AHEAD_FAILING if self.failing else AHEAD_MAX
        return ahead - len(self.queue) if self.active and len(self.queue) <= ahead // 2 else 0

    def due_room(self) -> int:
        """How many may be read whose next try is due: those in hand are found among them, and have to be passed over."""
        retried = sum(self.in_hand.values())
        most = AHEAD_FAILING if self.failing else DUE_MAX
        return most + retried if self.active and retried < most else 0

    def add(self, delivery: Next) -> bool:
        """Put a delivery in the queue, unless it is in hand; those that have failed before go first."""
        if delivery.number in self.in_hand:
            return False
        retried = delivery.attempt > 1
        self.in_hand[delivery.number] = retried
        if retried:
            self.queue.appendleft(delivery)
        else:
            self.queue.append(delivery)
        return True

    def may_fly(self, now: int, left: int) -> bool:
        """Whether one more may be on its way; `left` is how many of all lanes' number are free."""
        if not self.queue or not self.active:
            return False
        if self.failing:
            # One at a time, to see whether it has come back.
            return self.flying == 0 and now >= self.rests_until
        return self.flying < min(self.width, max(1, left))

    def landed(self, now: int, *, ok: bool, asked: int = 0) -> None:
        """Learn from how one went. `asked`: how long the receiver wants to be left alone, by its answer."""
        if ok:
            if now >= self.asked_until:
                self.failures = self.rests_until = 0
            self.width = min(WIDTH_MAX, self.width + 1)
            return
        had_failed = self.failing
        self.failures += 1
        self.width = max(1, self.width // 2)
        if asked:
            self.asked_until = max(self.asked_until, now + asked)
            self.failures = max(self.failures, FAILURES_MAX)
        if self.failing:
            self.rests_until = max(now + round(REST.wait(self.failures - FAILURES_MAX + 1) * SECOND), self.asked_until)
        if self.failing and not had_failed:
            self.empty()

    def put_off(self, delivery: Next) -> None:
        """It is not to be sent now after all: whoever reads what is due finds it again."""
        self.in_hand.pop(delivery.number, None)
        self.dropped.append(delivery)

    def settled(self, number: int) -> None:
        """The result of this one is stored."""
        self.fading.append(number)

    def begin_read(self) -> None:
        """A read begins: what is stored now it sees as it stands."""
        for number in self.fading:
            self.in_hand.pop(number, None)
        self.fading.clear()
        self.rewound = False

    def passed(self, number: int) -> bool:
        """Note that the read has come to this number; False when it is to be read again, with what lies before it."""
        if self.rewound:
            return False
        self.cursor = number
        return True

    def done_to(self) -> int:
        """Up to here nothing waits for its first try."""
        first = min((number for number, retried in self.in_hand.items() if not retried), default=self.cursor + 1)
        return min(first - 1, self.cursor)

    def empty(self) -> None:
        """Forget what is in the queue: it is read again when it may be sent."""
        self.cursor = self.done_to()
        self.rewound = True
        for one in self.queue:
            self.in_hand.pop(one.number, None)
        self.dropped.extend(self.queue)
        self.queue.clear()
