"""The desk of the web PSP: one request from its headers to its document.

    POST /web/v1/payments            a payment by card, or a page at which the buyer enters one
    POST /web/v1/captures            of an authorized payment, whole or part
    POST /web/v1/voids               of what is authorized and not captured
    POST /web/v1/refunds             of what is captured, whole or part
    POST /web/v1/reversals           whatever stands under a reference is undone; remembered where nothing does yet
    GET  /web/v1/operations/REF      how an operation stands
    GET, POST /web/pay/...           the page (page.py)

Authorization: Bearer KEY. POSTs need an Idempotency-Key; the same key with the same request is answered again and has one
effect, for a day. Errors are {"error": {"code", "message"}}. Nothing is answered before it is durable.
"""

import asyncio
import hmac
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from guilder.core.clock import SECOND, Clock
from guilder.iso8583 import Code, Message, State
from guilder.network.books import Operation
from guilder.network.entries import Kind, PageOpened
from guilder.network.faults import Face, FaultKind, Faults
from guilder.network.hosted import Page
from guilder.network.http import Request, Response
from guilder.network.issuer import Refunds
from guilder.network.web.answers import Document, kind_of, operation_document, page_document, standing_document
from guilder.network.web.limits import Bucket, Keyed, Keys, seconds_up
from guilder.network.web.merchant import WebMerchant
from guilder.network.web.mishaps import Mishaps, suffer
from guilder.network.web.notices import Notifier
from guilder.network.web.page import PAY, PayPage, page_url
from guilder.network.web.requests import (
    ACQUIRER,
    FOLLOWING,
    KEY_CHARACTERS_MAX,
    NewPayment,
    WrongDocument,
    following_message,
    inquiry_message,
    page_message,
    payment_message,
    read_following,
    read_payment,
)
from guilder.network.world import World

WEB: Final = "/web/"
"""Below it stands what is served here."""
API: Final = "/web/v1/"
OPERATIONS: Final = "operations/"

Then = Callable[[Callable[[], object]], None]
"""Do this once everything until now is durable."""


class Asked(Struct, frozen=True):
    """A request, read: the message that it means, and for a page what it is opened with."""

    kind: str
    message: Message
    page: NewPayment | None = None


class Desk:
    """Answers what is below /web/. Made inside the loop."""

    def __init__(self, world: World, faults: Faults, clock: Clock, then: Then, merchant: WebMerchant) -> None:
        self._world = world
        self._faults = faults
        self._clock = clock
        self._then = then
        self._merchant = merchant
        self._bucket = Bucket(merchant.rate_per_second, merchant.rate_burst)
        self._keys = Keys(ACQUIRER)
        self._keys.recover(world.books, world.hosted)
        self._notifier = Notifier(merchant, faults, clock)
        self._page = PayPage(world, clock, self._notifier)
        self._mishaps = Mishaps()

    async def answer(self, request: Request) -> Response:
        """The answer to a request; never raises for what stands in it."""
        if request.path.startswith(PAY):
            response = self._page.answer(request)
            await self._durable()
            return response
        if not self._knows(request.headers.get("authorization", "")):
            return refusal("unauthorized", "the key in `Authorization: Bearer` is none of ours", 401)
        wait = self._bucket.take(self._clock.boot())
        if wait is not None:
            return rate_limited(seconds_up(wait))
        try:
            asked = self._read(request)
        except WrongDocument as error:
            return refusal("invalid_request", str(error), 400)
        if isinstance(asked, Response):
            return asked
        rule = self._faults.draw(asked.message, Face.WEB) if self._faults else None
        self._mishaps.noticed(asked.message)
        if rule is None:
            return await self._do(asked)
        if rule.kind is FaultKind.KEY_IGNORED:
            return await self._do_again(asked)
        return await suffer(rule, self._mishaps, asked.message, lambda: self._do(asked))

    def close(self) -> None:
        """Send no notification any more."""
        self._notifier.close()

    def _knows(self, authorization: str) -> bool:
        expected = f"Bearer {self._merchant.api_key}"
        return hmac.compare_digest(authorization.encode(), expected.encode())

    def _read(self, request: Request) -> Asked | Response:
        """What is asked. Raises WrongDocument; refuses an unknown path, a wrong method, a key that means something else."""
        name = request.path.removeprefix(API)
        if request.method == "GET" and name.startswith(OPERATIONS):
            return Asked("query", inquiry_message(name.removeprefix(OPERATIONS)))
        if name != "payments" and name not in FOLLOWING:
            return refusal("not_found", "there is nothing here", 404)
        if request.method != "POST":
            return refusal("method_not_allowed", "use POST", 405)
        key = request.headers.get("idempotency-key", "")
        if not 0 < len(key) <= KEY_CHARACTERS_MAX:
            raise WrongDocument(f"send an `Idempotency-Key` of 1 to {KEY_CHARACTERS_MAX} characters")
        if name == "payments":
            new = read_payment(request.body)
            if new.card is not None:
                message = payment_message(new, new.card, key)
                asked = Asked(kind_of(message.mti, message.fields), message)
            else:
                message = page_message(new, key)
                asked = Asked(kind_of(message.mti, message.fields), message, new)
            money = new.amount, new.currency
        else:
            following = read_following(request.body)
            message = following_message(name, following, key)
            asked = Asked(kind_of(message.mti, message.fields), message)
            money = following.amount, following.currency
        keyed = Keyed.of(asked.kind, message.fields[37], *money)
        if self._keys.differs(key, keyed, self._clock.now()):
            return refusal("idempotency_key_reused", "this key was sent with another request", 409)
        return asked

    async def _do(self, asked: Asked) -> Response:
        """Carry a request out, and answer once it is durable."""
        if asked.kind == "query":
            response = self._found(asked.message)
        elif asked.page is not None:
            response = self._opened(asked, asked.page)
        else:
            response = self._carried_out(asked)
        await self._durable()
        return response

    async def _do_again(self, asked: Asked) -> Response:
        """The key is not honoured: what was done is done once more, under a reference of our own that only `also` tells."""
        reference = asked.message.fields[37]
        known = self._world.books.find(ACQUIRER, reference)
        if known is None or known.state != State.APPROVED or not is_done_at_once(known):
            return await self._do(asked)
        own = own_reference(reference, len(self._repeats(reference)) + 1)
        message = Message(asked.message.mti, asked.message.fields | {37: own})
        _, fields = self._world.carry_out(message, repeats=reference)
        await self._durable()
        return document(operation_document(asked.kind, fields | {37: reference}))

    def _repeats(self, reference: str) -> list[tuple[str, Operation]]:
        """What was carried out once more under this reference, by our own references."""
        found: list[tuple[str, Operation]] = []
        while (again := self._world.books.find(ACQUIRER, own := own_reference(reference, len(found) + 1))) is not None:
            found.append((own, again))
        return found

    def _carried_out(self, asked: Asked) -> Response:
        if self._world.hosted.find(ACQUIRER, asked.message.fields[37]) is not None:
            return refusal("reference_reused", "a page has this reference", 409)
        _, fields = self._world.carry_out(asked.message)
        if fields[39] == Code.DUPLICATE:
            return refusal("reference_reused", "another request has this reference", 409)
        return document(operation_document(asked.kind, fields))

    def _opened(self, asked: Asked, new: NewPayment) -> Response:
        """Open a page; the same request again gets it as it stands."""
        fields, now = asked.message.fields, self._clock.now()
        if self._world.books.was_reversed_early(ACQUIRER, new.reference, now):
            money = new.amount, new.currency
            return document(page_document(asked.kind, new.reference, money, "declined", code="payment_reversed"))
        known = self._world.hosted.find(ACQUIRER, new.reference)
        if known is None:
            if self._world.books.find(ACQUIRER, new.reference) is not None or new.page is None:
                return refusal("reference_reused", "another request has this reference", 409)
            self._world.note_page(PageOpened(
                now, ACQUIRER, new.reference, fields[7], new.amount, new.currency, new.capture, new.page.returns_to,
                new.page.expires_at * SECOND, new.descriptor, tuple(new.metadata.items()),
            ))  # fmt: skip
        elif known.opened.key != fields[7]:
            return refusal("reference_reused", "another request has this reference", 409)
        return self._found(asked.message)

    def _found(self, message: Message) -> Response:
        """How an operation, or a page that nobody has paid, stands."""
        reference = message.fields[37]
        operation = self._world.books.find(ACQUIRER, reference)
        page = self._world.hosted.find(ACQUIRER, reference)
        if operation is not None:
            _, fields = self._world.carry_out(inquiry_message(reference))
            also = [own for own, again in self._repeats(reference) if again.state == State.APPROVED]
            return document(standing_document(fields) | ({"also": also} if also else {}))
        if page is None:
            return refusal("operation_not_found", "there is no operation of this reference", 404)
        return document(self._page_standing(page))

    def _page_standing(self, page: Page) -> Document:
        opened, now = page.opened, self._clock.now()
        kind = "purchase" if opened.capture else "authorization"
        money = opened.amount, opened.currency
        if self._world.books.was_reversed_early(ACQUIRER, opened.reference, now):
            return page_document(kind, opened.reference, money, State.REVERSED)
        ended = page.standing(now)
        if ended:
            return page_document(kind, opened.reference, money, "declined", code=ended)
        shown = {"url": page_url(self._world, opened), "expires_at": opened.expires_at // SECOND}
        return page_document(kind, opened.reference, money, "action_required", page=shown)

    async def _durable(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        self._then(settle)
        await done


def own_reference(reference: str, number: int) -> str:
    """The name of what was done once more under a merchant's reference, counted from 1: the same after a restart."""
    return blake2b(f"{reference}:{number}".encode(), digest_size=6).hexdigest().upper()


def is_done_at_once(operation: Operation) -> bool:
    """Whether it has no other state before it: a refund may have a life of its own."""
    return operation.kind != Kind.REFUND or operation.account is None or operation.account.terms.refunds is Refunds.AT_ONCE


def document(content: Document, status: int = 200) -> Response:
    """An answer; the connection stays."""
    return Response(msgspec.json.encode(content), status, keep=True)


def refusal(code: str, message: str, status: int, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An error; nothing was done."""
    return Response(msgspec.json.encode({"error": {"code": code, "message": message}}), status, headers=headers, keep=True)


def rate_limited(seconds: int) -> Response:
    """Come again later."""
    return refusal("rate_limited", "too many requests", 429, (("Retry-After", str(seconds)),))
