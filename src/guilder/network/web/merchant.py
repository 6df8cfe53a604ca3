"""The one merchant of the web PSP: what it calls itself, and the secrets that both sides know."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from guilder.network.errors import NetworkError

# Requests in a second, and in a burst, before 429: far above what two cores can ask for, so only a leak meets it.
RATE_PER_SECOND: Final = 2_000.0
RATE_BURST: Final = 4_000


class WebMerchant(Struct, frozen=True, kw_only=True):
    """Who may call, and where notifications go.

    Args:
        api_key: what stands behind `Authorization: Bearer`.
        signing_secret: notifications are signed with it.
        notify_url: where they are sent; None for nowhere.
        rate_per_second, rate_burst: what is answered before 429.
    """

    api_key: str
    signing_secret: str
    notify_url: str | None = None
    rate_per_second: float = RATE_PER_SECOND
    rate_burst: int = RATE_BURST

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"WebMerchant(notify_url={self.notify_url!r})"


def read_merchant(file: Path) -> WebMerchant:
    """The merchant of a JSON file. Raises NetworkError with what is wrong, never with what stands in it."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=WebMerchant)
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else "it must hold api_key and signing_secret, and may hold notify_url"
        raise NetworkError(f"cannot read the web PSP's merchant from {file}: {why}") from None
