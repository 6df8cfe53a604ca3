"""What the connector is told, and its limits, each with its reason."""

from typing import Final

from msgspec import Struct

from guilder.core.retry import Retry
from guilder.psp.connectors.shared import CommonLimits, limits_said
from guilder.tuning import RETRIES, Tuning

# Orders that were given up but whose answer may still come; the oldest is forgotten first. 10 minutes at 20 a second.
LATE_MAX: Final = 12_000
# How often in-flight orders are looked at for their deadline: exact enough for waits of seconds.
SWEEP_SECONDS: Final = 0.25

# A connection on which nothing was heard for so long is asked for an echo, and is dead when none comes in time.
ECHO_EVERY_SECONDS: Final = 10.0
ECHO_ANSWER_SECONDS: Final = 5.0


class Limits(CommonLimits, frozen=True, kw_only=True):
    """All limits of one connector."""

    late_max: int = LATE_MAX
    sweep_seconds: float = SWEEP_SECONDS
    reconnect: Retry = RETRIES["psp-connect"]
    echo_every_seconds: float = ECHO_EVERY_SECONDS
    echo_answer_seconds: float = ECHO_ANSWER_SECONDS

    @classmethod
    def of(cls, tuning: Tuning, connector: str) -> "Limits":
        """What the configuration says for a connector."""
        return cls(reconnect=tuning.policy("psp-connect", connector), **limits_said(tuning, connector))


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
