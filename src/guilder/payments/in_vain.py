"""Who waits in vain for a slow PSP: what is known of their payments is read, and written under their keys, in lists.

A spike ends as many waits at once as it began. Each step takes one connection of the process, however many there are.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from guilder.core.ensure import InvariantBroken
from guilder.db.batch import Coalescer
from guilder.db.pool import Database
from guilder.idempotency.model import Claim
from guilder.idempotency.once import Pending, answers_if_none, find_all
from guilder.payments.read import objects_by_id
from guilder.shapes.facts import Answer, Facts

# As in a flush of payments: longer lists gain nothing, and one that fails is halved until its bad item stands alone.
LIST_MAX: Final = 256

Item = TypeVar("Item")
Result = TypeVar("Result")


class InVain:
    """What those whose wait has ended ask of the database, together. One per process."""

    def __init__(self, db: Database) -> None:
        self._found: Coalescer[Claim, Answer | Pending | None] = _in_lists(partial(find_all, db))
        self._objects: Coalescer[tuple[str, str, bool], Facts | None] = _in_lists(partial(objects_by_id, db))
        self._answers: Coalescer[tuple[Claim, Answer], Answer] = _in_lists(partial(answers_if_none, db))

    async def find(self, claim: Claim) -> Answer | Pending | None:
        """As idempotency's `find`. Raises Refusal."""
        return await self._found.submit(claim)

    async def object(self, id_: str, claim: Claim) -> Facts:
        """The payment or refund that the claim has made or works on, as it stands."""
        found = await self._objects.submit((id_, claim.account, claim.livemode))
        if found is None:
            raise InvariantBroken(f"a pending key's object exists (object={id_!r})")
        return found

    async def answer_if_none(self, claim: Claim, answer: Answer) -> Answer:
        """Write the answer unless one stands under the key; returns the one that stands there now. Safe to repeat."""
        return await self._answers.submit((claim, answer))


def _in_lists(together: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]]) -> Coalescer[Item, Result]:
    """Each of these is safe to repeat, so what became of one whose answer was lost is found out by doing it again."""
    return Coalescer(together, limit=LIST_MAX, keys=lambda _item: (), resolve=together)
