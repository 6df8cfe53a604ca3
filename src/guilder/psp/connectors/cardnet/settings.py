"""What the connector is told, and its limits, each with its reason."""

from typing import Final

from msgspec import Struct

from guilder.core.retry import Retry
from guilder.tuning import RETRIES, Breaking, Bulkhead, Timeouts, Tuning

# Longest wait for the vault. It is a process on this machine and answers in a millisecond.
REVEAL_SECONDS: Final = 2.0
# Cards per call to the vault; it takes no more than 1,000.
REVEAL_LIST_MAX: Final = 500
# Orders that were given up but whose answer may still come; the oldest is forgotten first. 10 minutes at 20 a second.
LATE_MAX: Final = 12_000
# How often in-flight orders are looked at for their deadline: exact enough for waits of seconds.
SWEEP_SECONDS: Final = 0.25

# A connection on which nothing was heard for so long is asked for an echo, and is dead when none comes in time.
ECHO_EVERY_SECONDS: Final = 10.0
ECHO_ANSWER_SECONDS: Final = 5.0


class Limits(Struct, frozen=True, kw_only=True):
    """All limits of one connector; tests shorten the waits. What an operator may set stands in tuning.py, with its reasons."""

    connect_seconds: float = Timeouts().connect_seconds
    answer_seconds: float = Timeouts().read_seconds
    queue_seconds: float = Timeouts().queue_seconds
    total_seconds: float = Timeouts().total_seconds
    reveal_seconds: float = REVEAL_SECONDS
    reveal_list_max: int = REVEAL_LIST_MAX
    payments_in_flight_max: int = Bulkhead().payments_max
    recovery_in_flight_max: int = Bulkhead().recovery_max
    late_max: int = LATE_MAX
    sweep_seconds: float = SWEEP_SECONDS
    reconnect: Retry = RETRIES["psp-connect"]
    echo_every_seconds: float = ECHO_EVERY_SECONDS
    echo_answer_seconds: float = ECHO_ANSWER_SECONDS
    breaker: Breaking = Breaking()

    @classmethod
    def of(cls, tuning: Tuning, connector: str) -> "Limits":
        """What the configuration says for a connector."""
        said = tuning.connector(connector)
        waits = said.timeouts
        return cls(
            connect_seconds=waits.connect_seconds, answer_seconds=waits.read_seconds, queue_seconds=waits.queue_seconds,
            total_seconds=waits.total_seconds, payments_in_flight_max=said.bulkhead.payments_max,
            recovery_in_flight_max=said.bulkhead.recovery_max, reconnect=tuning.policy("psp-connect", connector), breaker=said.breaker,
        )  # fmt: skip


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
