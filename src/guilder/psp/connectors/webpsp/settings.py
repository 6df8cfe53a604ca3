"""What the connector is told, and its limits, each with its reason."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from guilder.psp.connectors.shared import CommonLimits, limits_said
from guilder.security import Secret
from guilder.tuning import Tuning

# An answer that comes after that, within this from the first byte, still counts; then the connection is given up.
LATE_SECONDS: Final = 60.0
# Silence on a connection in the middle of an answer. As long as a late answer may take: nobody waits for it any more.
SILENCE_SECONDS: Final = 60.0
# Connections to the PSP for payments: at 200 ms an answer, 320 requests a second.
CONNECTIONS_MAX: Final = 64
# The same for queries, reversals and voids, which new payments can never fill.
RECOVERY_CONNECTIONS_MAX: Final = 16
# Idle connections are closed before common servers close theirs, so that a first byte seldom meets a closed door.
IDLE_SECONDS: Final = 20.0
# What is read of an answer: ten times the longest that is documented.
ANSWER_BYTES_MAX: Final = 64 * 1024


class Limits(CommonLimits, frozen=True, kw_only=True):
    """All limits of one connector.

    Args:
        answer_seconds: from the first byte of the request, also where it is sent again because there were too many.
        connect_seconds: to reach the PSP, its name and TLS included.
        queue_seconds: for a connection of the pool, or a new one.
        silence_seconds: on a connection, in the middle of an answer that is late already.
    """

    late_seconds: float = LATE_SECONDS
    silence_seconds: float = SILENCE_SECONDS
    connections_max: int = CONNECTIONS_MAX
    recovery_connections_max: int = RECOVERY_CONNECTIONS_MAX

    @classmethod
    def of(cls, tuning: Tuning, connector: str) -> "Limits":
        """What the configuration says for a connector."""
        return cls(**limits_said(tuning, connector))


class WebpspSettings(Struct, frozen=True, kw_only=True):
    """Where the PSP is, and what it knows us by.

    Args:
        url: its origin, http:// or https://.
        ca_file: the certificates that its own is checked against; None for the system's.
    """

    url: str
    api_key: Secret
    ca_file: Path | None = None
