"""/v1/terminal: locations, readers, and the payment that a reader takes; and the test helper that holds a card to a reader."""

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from guilder import payments
from guilder.api.call import Call, Done, page_of
from guilder.api.cards import numeral
from guilder.api.http import Reply
from guilder.api.params import Id, Metadata, Numeral, PageParams, Params, ShortText
from guilder.api.personal import Address
from guilder.api.registry import Route
from guilder.api.text import pairs
from guilder.core.clock import epoch_seconds
from guilder.core.errors import Refusal
from guilder.customers import NewCard
from guilder.db import Connection
from guilder.db.errors import may_be_stored
from guilder.idempotency import Claim, Pending, Result, in_use, settled_first
from guilder.payments.answers import refused
from guilder.payments.model import Till
from guilder.payments.read import retrieve_payment
from guilder.payments.till import check_processable
from guilder.security import Pan
from guilder.shapes.facts import Answer, PaymentIntentFacts, PaymentMethodFacts, ReaderActionFacts
from guilder.shapes.metadata import merged
from guilder.terminal.terminal import IN_PROGRESS

LOCATION: Final = "terminal.location"
READER: Final = "terminal.reader"
# The card that is held to a simulated reader unless another one is named.
_CARD: Final = ("424242", "4242424242")
_EXPIRY_MONTH: Final = 12
READ_METHOD: Final = "contact_emv"

_CANCELED: Final = refused(Refusal("The reader's action was canceled before a card was taken.", code="terminal_reader_busy"))
"""What stands under an action's key once it is canceled: no card is charged for it any more."""

_NOT_ASKED: Final = refused(
    Refusal("The reader is not asking for a card. Process a PaymentIntent with it first.", code="terminal_reader_busy")
)

Name = Annotated[str, Meta(min_length=1, max_length=1_000)]


class CreateLocation(Params, frozen=True, kw_only=True):
    """A place where readers stand."""

    display_name: Name
    address: Address
    metadata: Metadata = UNSET
    phone: ShortText | UnsetType | None = UNSET


class UpdateLocation(Params, frozen=True, kw_only=True):
    """Changes of a place."""

    display_name: Name | UnsetType = UNSET
    address: Address | UnsetType = UNSET
    metadata: Metadata = UNSET
    phone: ShortText | UnsetType | None = UNSET


class CreateReader(Params, frozen=True, kw_only=True):
    """A reader, by the code that it shows."""

    registration_code: ShortText
    label: ShortText | UnsetType | None = UNSET
    location: Id | UnsetType | None = UNSET
    metadata: Metadata = UNSET


class UpdateReader(Params, frozen=True, kw_only=True):
    """Changes of a reader."""

    label: ShortText | UnsetType | None = UNSET
    metadata: Metadata = UNSET


class ListedReaders(PageParams, frozen=True, kw_only=True):
    """Which readers."""

    location: Id | UnsetType = UNSET


class Process(Params, frozen=True, kw_only=True):
    """The payment that a reader is to take."""

    payment_intent: Id


class CardPresent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The card that is held to a simulated reader."""

    number: Pan | UnsetType = UNSET
    exp_month: Numeral | UnsetType = UNSET
    exp_year: Numeral | UnsetType = UNSET


class Present(Params, frozen=True, kw_only=True):
    """A card is held to the reader."""

    type: Literal["card_present"] = "card_present"
    card_present: CardPresent | UnsetType = UNSET


# --- locations --------------------------------------------------------------------------------------------------------


def _address(address: Address) -> dict[str, str]:
    return {name: value for name, value in asdict(address).items() if value is not None}


async def create_location(call: Call, p: CreateLocation) -> Reply:
    """A new place."""

    async def effect(connection: Connection) -> Done:
        return Done(
            await call.services.terminal.create_location(
                connection, call.account, livemode=call.livemode, display_name=p.display_name, address=_address(p.address),
                metadata=pairs(p.metadata), phone=p.phone or None,
            )
        )  # fmt: skip

    return await call.once(effect)


async def update_location(call: Call, p: UpdateLocation) -> Reply:
    """Change a place."""

    async def effect(connection: Connection) -> Done:
        terminal = call.services.terminal
        facts = await terminal.location(call.account, call.ids[0], livemode=call.livemode, connection=connection, lock=True)
        changes: dict[str, Any] = {"metadata": merged(facts.metadata, p.metadata)}
        if p.display_name is not UNSET:
            changes["display_name"] = p.display_name
        if p.address is not UNSET:
            changes["address"] = tuple(_address(p.address).items())
        if p.phone is not UNSET:
            changes["phone"] = p.phone
        return Done(await terminal.change_location(connection, replace(facts, **changes)))

    return await call.once(effect)


async def retrieve_location(call: Call, _p: Params) -> Reply:
    """One place."""
    return await call.show(await call.services.terminal.location(call.account, call.ids[0], livemode=call.livemode))


async def list_locations(call: Call, p: PageParams) -> Reply:
    """Places, newest first."""
    found, more = await call.services.terminal.locations(call.account, page_of(p), livemode=call.livemode)
    return await call.show_list(found, more)


async def delete_location(call: Call, _p: Params) -> Reply:
    """Remove a place where no reader stands any more."""
    async with call.services.db.transaction() as connection:
        gone = await call.services.terminal.delete_location(connection, call.account, call.ids[0], livemode=call.livemode)
    return await call.show(gone)


# --- readers ----------------------------------------------------------------------------------------------------------


async def create_reader(call: Call, p: CreateReader) -> Reply:
    """Register a reader."""

    async def effect(connection: Connection) -> Done:
        return Done(
            await call.services.terminal.register(
                connection, call.account, livemode=call.livemode, code=p.registration_code, label=p.label or None,
                location=p.location or None, metadata=pairs(p.metadata),
            )
        )  # fmt: skip

    return await call.once(effect)


async def update_reader(call: Call, p: UpdateReader) -> Reply:
    """Change a reader's label or metadata."""

    async def effect(connection: Connection) -> Done:
        terminal = call.services.terminal
        facts = await terminal.reader(call.account, call.ids[0], livemode=call.livemode, connection=connection, lock=True)
        label = facts.label if p.label is UNSET else p.label or facts.serial_number
        changed = replace(facts, label=label, metadata=merged(facts.metadata, p.metadata))
        return Done(await terminal.change_reader(connection, changed))

    return await call.once(effect)


async def retrieve_reader(call: Call, _p: Params) -> Reply:
    """One reader, with what it is doing."""
    return await call.show(await call.services.terminal.reader(call.account, call.ids[0], livemode=call.livemode))


async def list_readers(call: Call, p: ListedReaders) -> Reply:
    """Readers, newest first."""
    found, more = await call.services.terminal.readers(call.account, page_of(p), livemode=call.livemode, location=p.location or None)
    return await call.show_list(found, more)


async def delete_reader(call: Call, _p: Params) -> Reply:
    """Remove a reader that does nothing."""
    async with call.services.db.transaction() as connection:
        gone = await call.services.terminal.delete_reader(connection, call.account, call.ids[0], livemode=call.livemode)
    return await call.show(gone)


# --- what a reader does -----------------------------------------------------------------------------------------------


async def process(call: Call, p: Process) -> Reply:
    """The reader asks for a card."""
    facts = await retrieve_payment(call.services.db, call.account, call.livemode, p.payment_intent, param="payment_intent")

    async def effect(connection: Connection) -> Done:
        return Done(
            await call.services.terminal.begin(connection, call.account, call.ids[0], p.payment_intent, livemode=call.livemode)
        )

    try:
        check_processable(facts)
        return await call.once(effect)
    except Refusal as refusal:
        return await call.refused(refusal)


async def cancel_action(call: Call, _p: Params) -> Reply:
    """The reader asks for nothing any more; not while its payment is under way at the bank.

    Whoever holds a card to it at the same time needs the action's key too: of the two, one counts. Where the card came first
    and its end is known, the action ends as that says.
    """

    async def effect(connection: Connection) -> Done:
        terminal = call.services.terminal
        facts = await terminal.reader(call.account, call.ids[0], livemode=call.livemode, connection=connection, lock=True)
        action = facts.action
        if action is not None and action.status == IN_PROGRESS:
            found = await settled_first(connection, _claim(call, action.id), call.services.clock.now(), _CANCELED)
            if isinstance(found, Pending):
                raise Refusal("The payment is under way at the bank; its end is known in a moment.", code="terminal_reader_busy")
            if found is not _CANCELED:
                return await _ended(call, connection, action.id, found)
        return Done(await terminal.change_reader(connection, replace(facts, action=None)))

    try:
        return await call.once(effect)
    except Refusal as refusal:
        return await call.refused(refusal)


async def present(call: Call, p: Present) -> Reply:
    """A card is held to the reader: the payment is taken, and the answer waits for its end, 8 seconds at most.

    The payment has a key of its own, the reader's action: whoever repeats this, under whichever key, never pays twice. And whoever
    was refused, because nobody asked for a card, is refused under that key for ever: never charged for the next buyer's order.
    """
    stored = await call.answered()
    if stored is not None:
        return stored
    asked = await _asked(call)
    if isinstance(asked, Result):
        return await call.result(asked)
    till, action = asked
    result = await payments.take_at_till(
        call.services.payments, _claim(call, action.id), action.payment_intent, await _read(call, p), till,
    )  # fmt: skip
    # The payment is answered for: "nothing was stored" would be a lie from here on.
    with may_be_stored("the card was taken, and the reader could not be told"):
        return await call.once(lambda connection: _ended(call, connection, action.id, result.answer))


class _Asks(Exception):  # noqa: N818 - no error: it gives the key back
    """The reader asks for a card: here, and for this."""

    def __init__(self, till: Till, action: ReaderActionFacts) -> None:
        super().__init__()
        self.till = till
        self.action = action


async def _asked(call: Call) -> tuple[Till, ReaderActionFacts] | Result:
    """Where a card is asked for, and for what; or what stands under the key: that nobody asks, unless it has an answer already.

    The key is held while the reader is looked at, and before it, as everywhere: whoever was refused under this key is never charged
    under it, also when it is sent twice at once.
    """
    try:
        async with call.services.db.transaction() as connection:
            found = await settled_first(connection, call.claim, call.services.clock.now(), _NOT_ASKED)
            if found is _NOT_ASKED:
                reader = await call.services.terminal.reader(
                    call.account, call.ids[0], livemode=call.livemode, connection=connection, lock=True,
                )  # fmt: skip
                if reader.action is not None and reader.action.status == IN_PROGRESS:
                    raise _Asks(Till(reader.id, reader.location), reader.action)
    except _Asks as asks:
        return asks.till, asks.action
    if isinstance(found, Pending):
        raise in_use(call.claim.key)
    return Result(found, replayed=found is not _NOT_ASKED)


async def _ended(call: Call, connection: Connection, action: str, answer: Answer) -> Done:
    """The reader with its action ended as the payment's answer says, and the event of it unless it had ended already."""
    failure = _failure(answer)
    facts, ended = await call.services.terminal.end(
        connection, call.account, call.ids[0], action, livemode=call.livemode, failure=failure,
    )  # fmt: skip
    name = f"terminal.reader.action_{'failed' if failure else 'succeeded'}"
    return Done(facts, ((name, facts, b""),) if ended else ())


def _claim(call: Call, action: str) -> Claim:
    """The payment's own key: one for each action of a reader."""
    fingerprint = blake2b(action.encode(), digest_size=32).digest()
    return Claim(account=call.account, livemode=call.livemode, key=action, fingerprint=fingerprint, request_id=call.request_id)


async def _read(call: Call, p: Present) -> PaymentMethodFacts:
    """The card as the reader reads it: a PaymentMethod of its own, kept by the vault."""
    card = p.card_present or CardPresent()
    year = datetime.fromtimestamp(epoch_seconds(call.services.clock.now()), UTC).year + 1
    entered = NewCard(
        number=Pan("".join(_CARD)) if card.number is UNSET else card.number,
        exp_month=_EXPIRY_MONTH if card.exp_month is UNSET else numeral(card.exp_month),
        exp_year=year if card.exp_year is UNSET else numeral(card.exp_year),
    )
    methods = call.services.methods
    prepared = await methods.prepare(call.account, entered, livemode=call.livemode, param="card_present")
    read = replace(prepared.facts, card=replace(prepared.facts.card, read_method=READ_METHOD))
    return await methods.store_now(replace(prepared, facts=read))


def _failure(answer: Answer) -> tuple[str, str] | None:
    """Code and words where the payment was not made."""
    root = answer.root
    if answer.error is None and isinstance(root, PaymentIntentFacts) and root.status in ("succeeded", "requires_capture"):
        return None
    if answer.error is None:
        return "processing_error", "The payment is still being checked with the bank."
    return answer.error.decline_code or answer.error.code or "processing_error", answer.error.message


_LOCATIONS: Final = "/v1/terminal/locations"
_READERS: Final = "/v1/terminal/readers"
_LOCATION: Final = f"{_LOCATIONS}/{{location}}"
_READER: Final = f"{_READERS}/{{reader}}"

ROUTES: Final = (
    Route(method="POST", path=_LOCATIONS, params=CreateLocation, handle=create_location, answers=LOCATION, summary="Create a Location"),
    Route(method="GET", path=_LOCATIONS, params=PageParams, handle=list_locations, answers=LOCATION, of_list=True,
          summary="List Locations"),
    Route(method="GET", path=_LOCATION, params=Params, handle=retrieve_location, answers=LOCATION, summary="Retrieve a Location"),
    Route(method="POST", path=_LOCATION, params=UpdateLocation, handle=update_location, answers=LOCATION, summary="Update a Location"),
    Route(method="DELETE", path=_LOCATION, params=Params, handle=delete_location, answers=LOCATION, summary="Delete a Location"),
    Route(method="POST", path=_READERS, params=CreateReader, handle=create_reader, answers=READER, summary="Create a Reader"),
    Route(method="GET", path=_READERS, params=ListedReaders, handle=list_readers, answers=READER, of_list=True, summary="List Readers"),
    Route(method="GET", path=_READER, params=Params, handle=retrieve_reader, answers=READER, summary="Retrieve a Reader"),
    Route(method="POST", path=_READER, params=UpdateReader, handle=update_reader, answers=READER, summary="Update a Reader"),
    Route(method="DELETE", path=_READER, params=Params, handle=delete_reader, answers=READER, summary="Delete a Reader"),
    Route(method="POST", path=f"{_READER}/process_payment_intent", params=Process, handle=process, answers=READER,
          summary="Hand-off a PaymentIntent to a Reader"),
    Route(method="POST", path=f"{_READER}/cancel_action", params=Params, handle=cancel_action, answers=READER,
          summary="Cancel the current reader action"),
    Route(method="POST", path="/v1/test_helpers/terminal/readers/{reader}/present_payment_method", params=Present, handle=present,
          answers=READER, summary="Simulate presenting a payment method"),
)  # fmt: skip
