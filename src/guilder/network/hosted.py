"""The memory of the web PSP's form pages: which are open, which have ended. Follows from the lines of the truth file.

A page holds no money. What a buyer pays there is an operation like any other, under the page's reference.
"""

from typing import Final

from msgspec import Struct

from guilder.core.clock import DAY
from guilder.network.entries import PageEnded, PageOpened

# How long a page is remembered after it could be paid: as long as its idempotency key.
REMEMBERED_AFTER: Final = DAY

EXPIRED: Final = "page_expired"
CANCELED: Final = "page_canceled"
DECLINED: Final = "page_declined"


class Page(Struct):
    """A page: what it was opened with, why it ended unpaid (empty while it has not), and the cards that were declined on it."""

    opened: PageOpened
    ended: str = ""
    declined: int = 0

    def standing(self, now: int) -> str:
        """Empty while it may be paid, else why it may not."""
        return self.ended or (EXPIRED if now >= self.opened.expires_at else "")


class HostedPages:
    """Finds pages and applies lines."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, str], Page] = {}

    def find(self, acquirer: str, reference: str) -> Page | None:
        """The page of a reference, as far as it is remembered."""
        return self._pages.get((acquirer, reference))

    def all(self) -> list[Page]:
        """All that are remembered, oldest first."""
        return list(self._pages.values())

    def apply(self, line: PageOpened | PageEnded) -> None:
        """Make a line true. Lines are applied once, in their order."""
        if isinstance(line, PageOpened):
            self._pages[line.acquirer, line.reference] = Page(line)
        else:
            page = self.find(line.acquirer, line.reference)
            if page is not None:
                page.ended = line.why

    def sweep(self, now: int) -> None:
        """Forget pages that nobody can ask about any more."""
        for key, page in list(self._pages.items()):
            if page.opened.expires_at + REMEMBERED_AFTER > now:
                continue
            del self._pages[key]
