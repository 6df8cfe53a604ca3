"""Reading what a merchant has: one session or a page of them. Reads only; nothing is locked."""

from collections.abc import Sequence

from guilder.db.pages import Page
from guilder.orders.services import Services
from guilder.shapes.facts import CheckoutSessionFacts


async def retrieve_session(services: Services, account: str, livemode: bool, id_: str) -> CheckoutSessionFacts:  # noqa: FBT001
    """One session. Raises Refusal (404)."""
    return (await services.store.read(id_, account, livemode)).facts


async def list_sessions(
    services: Services, account: str, livemode: bool, page: Page, *,  # noqa: FBT001
    customer: str | None = None, payment: str | None = None, state: str | None = None,
) -> tuple[Sequence[CheckoutSessionFacts], bool]:  # fmt: skip
    """A page of sessions, newest first, and whether there are more."""
    return await services.store.list(account, livemode, page, customer=customer, payment=payment, state=state)
