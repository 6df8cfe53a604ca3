"""The headers of a delivery: both signature schemes, and the endpoint's own count. Pure."""

from collections.abc import Mapping
from typing import Final

from guilder.security import Signer
from guilder.webhooks.transport import USER_AGENT

SEQUENCE: Final = "Guilder-Sequence"
HIDDEN: Final = "***"


def headers_of(event: str, number: int, timestamp: int, signer: Signer, body: bytes) -> Mapping[str, str]:
    """The headers of one try. The timestamp in real epoch seconds, a fresh one for each, because receivers refuse old ones."""
    return _headers(event, number, str(timestamp), signer.stripe(timestamp, body), signer.standard(event, timestamp, body))


def shown_headers(event: str, number: int) -> Mapping[str, str]:
    """The headers as people may see them: without signatures, and without the time, which differs from try to try."""
    return _headers(event, number, HIDDEN, f"t={HIDDEN},v1={HIDDEN}", f"v1,{HIDDEN}")


def _headers(event: str, number: int, timestamp: str, stripe: str, standard: str) -> Mapping[str, str]:
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": USER_AGENT,
        "Stripe-Signature": stripe,
        "webhook-id": event,
        "webhook-timestamp": timestamp,
        "webhook-signature": standard,
        SEQUENCE: str(number),
    }
