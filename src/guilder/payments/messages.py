"""Messages: what was said between us and a PSP, masked, kept until its attempt is settled and then stored for its story."""

from collections import defaultdict

import structlog

from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.db.text import storable
from guilder.payments.store import Store
from guilder.psp.model import Exchange

log = structlog.get_logger(__name__)


class Messages:
    """Those of one process, by attempt."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of: dict[str, list[Exchange]] = defaultdict(list)

    def __contains__(self, attempt: str) -> bool:
        return attempt in self._of

    def record(self, exchange: Exchange) -> None:
        """Keep a message until its attempt is settled."""
        self._of[exchange.attempt_id].append(exchange)

    def drop(self, attempt: str) -> None:
        """A plain approval or decline is told by its row."""
        self._of.pop(attempt, None)

    async def store(self, attempt: str) -> None:
        """Store an attempt's messages, in a commit of their own, and keep them no longer. Does nothing where there are none."""
        messages = self._of.pop(attempt, [])
        if not messages:
            return
        try:
            await self._store.keep_messages([(each.attempt_id, each.at, storable(f"{each.direction}: {each.text}")) for each in messages])
        except (Unavailable, ResultUnknown, Again) as error:
            # They are for the story only; the outcome stands without them.
            log.warning("messages_not_kept", attempt=attempt, reason=str(error))
