"""What can be done with locations and readers. Every change runs in a transaction of its caller, who announces it."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from guilder.core.clock import Clock, epoch_seconds
from guilder.core.errors import Refusal, missing
from guilder.core.ids import Ids
from guilder.db import Connection, Database
from guilder.db.pages import Page, fetch_page
from guilder.shapes.facts import LocationFacts, Metadata, ReaderActionFacts, ReaderFacts
from guilder.terminal import store

REGISTRATIONS: Final[Mapping[str, str]] = {
    "simulated-wpe": "simulated_wisepos_e",
    "simulated-s700": "simulated_stripe_s700",
}
"""What a registration code makes. Real readers need their maker's connection, and there is none in this version."""

IN_PROGRESS: Final = "in_progress"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"


class Terminal:
    """Locations and readers of all merchants. One per process."""

    def __init__(self, db: Database, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids

    # --- locations ----------------------------------------------------------------------------------------------------

    async def create_location(
        self, connection: Connection, account: str, *, livemode: bool, display_name: str, address: Mapping[str, str],
        metadata: Metadata, phone: str | None,
    ) -> LocationFacts:  # fmt: skip
        """A new place."""
        facts = LocationFacts(
            id=self._ids.new("tml"), livemode=livemode, created=epoch_seconds(self._clock.now()), display_name=display_name,
            address=tuple(address.items()), metadata=metadata, phone=phone,
        )  # fmt: skip
        await store.insert_location(connection, account, facts)
        return facts

    async def location(
        self, account: str, id_: str, *, livemode: bool, param: str | None = None, connection: Connection | None = None,
        lock: bool = False,
    ) -> LocationFacts:  # fmt: skip
        """One place. Raises Refusal: 404, or 400 when its id came as a parameter."""
        found = await store.find_location(connection or self._db, account, id_, livemode=livemode, lock=lock)
        if found is None:
            raise missing("terminal.location", id_, param=param)
        return found

    async def locations(self, account: str, page: Page, *, livemode: bool) -> tuple[list[LocationFacts], bool]:
        """A page of places, newest first, and whether there are more."""
        rows, more = await fetch_page(self._db, store.LOCATIONS, page, account=account, livemode=livemode)
        return [store.location_from(row["facts"]) for row in rows], more

    async def change_location(self, connection: Connection, facts: LocationFacts) -> LocationFacts:
        """Store what has changed of a locked place."""
        await store.update_location(connection, facts)
        return facts

    async def delete_location(self, connection: Connection, account: str, id_: str, *, livemode: bool) -> LocationFacts:
        """Remove a place. Raises Refusal while readers stand there (400)."""
        facts = await self.location(account, id_, livemode=livemode, connection=connection, lock=True)
        if not await store.delete_location(connection, id_):
            raise Refusal("This location cannot be deleted while readers are registered to it.")
        return replace(facts, deleted=True)

    # --- readers ------------------------------------------------------------------------------------------------------

    async def register(
        self, connection: Connection, account: str, *, livemode: bool, code: str, label: str | None, location: str | None,
        metadata: Metadata,
    ) -> ReaderFacts:  # fmt: skip
        """A new reader. Raises Refusal for a code that no reader shows (400)."""
        device = None if livemode else REGISTRATIONS.get(code)
        if device is None:
            raise Refusal(
                f"No reader with this registration code. The simulated ones are {', '.join(REGISTRATIONS)}, in test mode.",
                code="resource_missing", param="registration_code",
            )
        if location is not None:
            await self.location(account, location, livemode=livemode, param="location", connection=connection, lock=True)
        id_ = self._ids.new("tmr")
        facts = ReaderFacts(
            id=id_, livemode=livemode, created=epoch_seconds(self._clock.now()), device_type=device,
            serial_number=f"SIMULATOR-{id_[-8:].upper()}", label=label or f"{device}-{id_[-4:]}", location=location, metadata=metadata,
        )  # fmt: skip
        await store.insert_reader(connection, account, facts)
        return facts

    async def reader(
        self, account: str, id_: str, *, livemode: bool, connection: Connection | None = None, lock: bool = False,
    ) -> ReaderFacts:  # fmt: skip
        """One reader. Raises Refusal (404)."""
        found = await store.find_reader(connection or self._db, account, id_, livemode=livemode, lock=lock)
        if found is None:
            raise missing("terminal.reader", id_)
        return found

    async def readers(
        self, account: str, page: Page, *, livemode: bool, location: str | None,
    ) -> tuple[list[ReaderFacts], bool]:  # fmt: skip
        """A page of readers, newest first, and whether there are more."""
        where = [("location = ?", location)] if location is not None else []
        rows, more = await fetch_page(self._db, store.READERS, page, account=account, livemode=livemode, where=where)
        return [store.reader_from(row["facts"]) for row in rows], more

    async def change_reader(self, connection: Connection, facts: ReaderFacts) -> ReaderFacts:
        """Store what has changed of a locked reader."""
        await store.update_reader(connection, facts)
        return facts

    async def delete_reader(self, connection: Connection, account: str, id_: str, *, livemode: bool) -> ReaderFacts:
        """Remove a reader. Raises Refusal while it is taking a payment (400)."""
        facts = await self.reader(account, id_, livemode=livemode, connection=connection, lock=True)
        check_idle(facts)
        await store.delete_reader(connection, id_)
        return replace(facts, deleted=True, action=None)

    # --- what a reader does -------------------------------------------------------------------------------------------

    async def begin(self, connection: Connection, account: str, id_: str, payment: str, *, livemode: bool) -> ReaderFacts:
        """The reader asks for a card for this payment. Raises Refusal while it does so for another one (400)."""
        facts = await self.reader(account, id_, livemode=livemode, connection=connection, lock=True)
        check_idle(facts)
        action = ReaderActionFacts(self._ids.new("tma"), IN_PROGRESS, payment)
        return await self.change_reader(connection, replace(facts, action=action))

    async def end(
        self, connection: Connection, account: str, id_: str, action: str, *, livemode: bool, failure: tuple[str, str] | None,
    ) -> tuple[ReaderFacts, bool]:  # fmt: skip
        """What came of an action; False when it had ended already."""
        facts = await self.reader(account, id_, livemode=livemode, connection=connection, lock=True)
        if facts.action is None or facts.action.id != action or facts.action.status != IN_PROGRESS:
            return facts, False
        code, message = failure or (None, None)
        ended = replace(facts.action, status=FAILED if failure else SUCCEEDED, failure_code=code, failure_message=message)
        return await self.change_reader(connection, replace(facts, action=ended)), True


def check_idle(facts: ReaderFacts) -> None:
    """Refuse what a busy reader cannot do."""
    if facts.action is not None and facts.action.status == IN_PROGRESS:
        raise Refusal("The reader is currently processing another request. Cancel its action first.", code="terminal_reader_busy")
