"""What the connector is told, and its limits, each with its reason."""

from typing import Final

from msgspec import Struct

from guilder.psp.breaker import BreakerLimits

# Longest wait for an answer. Issuers answer in well under a second; past this the buyer has gone, and the attempt is
# settled by asking. Raising it only holds room in the bulkhead.
ANSWER_SECONDS: Final = 8.0
# Longest wait for a connection that is being made, or for a peer that takes no bytes, before "not sent".
QUEUE_SECONDS: Final = 3.0
# Longest wait for the vault. It is a process on this machine and answers in a millisecond.
REVEAL_SECONDS: Final = 2.0
# Cards per call to the vault; it takes no more than 1,000.
REVEAL_LIST_MAX: Final = 500
# Orders under way at once, from submit to delivery. 8 s of silence at 250 payments/s; a healthy bank at 10,000/s needs 200.
PAYMENTS_IN_FLIGHT_MAX: Final = 2_000
# The same for queries, reversals and voids, which recovery needs most when payments are stuck.
RECOVERY_IN_FLIGHT_MAX: Final = 1_000
# Orders that were given up but whose answer may still come; the oldest is forgotten first. 10 minutes at 20 a second.
LATE_MAX: Final = 12_000
# How often in-flight orders are looked at for their deadline: exact enough for waits of seconds.
SWEEP_SECONDS: Final = 0.25

# To connect and to sign on, each.
CONNECT_SECONDS: Final = 2.0
# Waits between failed attempts to connect: doubling from the first to the cap. The cap must stay below QUEUE_SECONDS, so
# that an order which waits sees at least one attempt.
BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_CAP_SECONDS: Final = 1.0
# A connection on which nothing was heard for so long is asked for an echo, and is dead when none comes in time.
ECHO_EVERY_SECONDS: Final = 10.0
ECHO_ANSWER_SECONDS: Final = 5.0


class Limits(Struct, frozen=True, kw_only=True):
    """All limits of one connector; tests shorten the waits."""

    answer_seconds: float = ANSWER_SECONDS
    queue_seconds: float = QUEUE_SECONDS
    reveal_seconds: float = REVEAL_SECONDS
    reveal_list_max: int = REVEAL_LIST_MAX
    payments_in_flight_max: int = PAYMENTS_IN_FLIGHT_MAX
    recovery_in_flight_max: int = RECOVERY_IN_FLIGHT_MAX
    late_max: int = LATE_MAX
    sweep_seconds: float = SWEEP_SECONDS
    connect_seconds: float = CONNECT_SECONDS
    backoff_first_seconds: float = BACKOFF_FIRST_SECONDS
    backoff_cap_seconds: float = BACKOFF_CAP_SECONDS
    echo_every_seconds: float = ECHO_EVERY_SECONDS
    echo_answer_seconds: float = ECHO_ANSWER_SECONDS
    breaker: BreakerLimits = BreakerLimits()


class CardnetSettings(Struct, frozen=True, kw_only=True):
    """Where the acquirer is and what we are called there.

    Args:
        acquirer: its institution code, DE 32 of every message.
        terminal: DE 41, at most 8 characters.
        merchant_category: DE 18, four digits (ISO 18245).
    """

    host: str
    port: int
    acquirer: str = "42010000001"
    terminal: str = "GUILDER1"
    merchant_category: str = "5999"
