"""What the connector is told, and its limits, each with its reason."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from guilder.psp.breaker import BreakerLimits
from guilder.security import Secret

# Longest wait for an answer, from the first byte of the request. PSPs answer in about a second, their page's start in less;
# past this the buyer has gone, and the attempt is settled by asking.
ANSWER_SECONDS: Final = 8.0
# An answer that comes after that, within this from the first byte, still counts; then the connection is given up.
LATE_SECONDS: Final = 60.0
# Silence on a connection in the middle of an answer. As long as a late answer may take: nobody waits for it any more.
READ_SECONDS: Final = 60.0
# To reach the PSP, its name and TLS included.
CONNECT_SECONDS: Final = 2.0
# For a connection of the pool, or a new one, before "not sent".
QUEUE_SECONDS: Final = 3.0
# Longest wait for the vault. It is a process on this machine and answers in a millisecond.
REVEAL_SECONDS: Final = 2.0
# Cards per call to the vault; it takes no more than 1,000.
REVEAL_LIST_MAX: Final = 500
# Connections to the PSP for payments: at 200 ms an answer, 320 requests a second.
CONNECTIONS_MAX: Final = 64
# The same for queries, reversals and voids, which new payments can never fill.
RECOVERY_CONNECTIONS_MAX: Final = 16
# Idle connections are closed before common servers close theirs, so that a first byte seldom meets a closed door.
IDLE_SECONDS: Final = 20.0
# Orders under way at once, from submit to delivery: 8 s of silence at 250 payments/s.
PAYMENTS_IN_FLIGHT_MAX: Final = 2_000
RECOVERY_IN_FLIGHT_MAX: Final = 1_000
# What is read of an answer: ten times the longest that is documented.
ANSWER_BYTES_MAX: Final = 64 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """All limits of one connector; tests shorten the waits."""

    answer_seconds: float = ANSWER_SECONDS
    late_seconds: float = LATE_SECONDS
    read_seconds: float = READ_SECONDS
    connect_seconds: float = CONNECT_SECONDS
    queue_seconds: float = QUEUE_SECONDS
    reveal_seconds: float = REVEAL_SECONDS
    reveal_list_max: int = REVEAL_LIST_MAX
    connections_max: int = CONNECTIONS_MAX
    recovery_connections_max: int = RECOVERY_CONNECTIONS_MAX
    payments_in_flight_max: int = PAYMENTS_IN_FLIGHT_MAX
    recovery_in_flight_max: int = RECOVERY_IN_FLIGHT_MAX
    breaker: BreakerLimits = BreakerLimits()


class WebpspSettings(Struct, frozen=True, kw_only=True):
    """Where the PSP is, and what it knows us by.

    Args:
        url: its origin, http:// or https://.
        ca_file: the certificates that its own is checked against; None for the system's.
    """

    url: str
    api_key: Secret
    ca_file: Path | None = None
