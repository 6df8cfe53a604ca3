"""The application: one request from its first byte to its last.

Route, key, idempotency key, parameters, handler, bytes. Whatever goes wrong on the way becomes one of the errors of
docs/errors.md: 503 only when nothing can have been stored, never a stack trace. There is no framework: for
requests of this size one costs more than everything else that the API does (see docs/adr).
"""

from typing import Final

import structlog
from msgspec.structs import replace

from guilder.api.auth import caller_of, secret_key_required
from guilder.api.call import Call, check_expand, refusal_reply
from guilder.api.fingerprint import fingerprint_of, fingerprint_of_bytes
from guilder.api.forms import Tree, as_texts, parse_form, parse_json
from guilder.api.http import (
    RETRY_AFTER_SECONDS,
    Reply,
    Request,
    idempotency_key,
    is_json,
    outgoing_of,
    timeout_micros,
)
from guilder.api.params import read
from guilder.api.psp import PATH as PSP_PATH
from guilder.api.psp import take_notification
from guilder.api.registry import Registry, Route
from guilder.api.services import Services
from guilder.core.errors import Refusal, ResultUnknown, Unavailable
from guilder.db.errors import Again
from guilder.http_server import HungUpError, Incoming, Outgoing
from guilder.idempotency import Claim, look
from guilder.metrics import Answered

_log = structlog.get_logger()

# Refusals behind which a stored answer may stand: the key is looked up before one of these is reported.
_MAY_HIDE_AN_ANSWER: Final = frozenset({400, 402, 404})

OPENAPI_PATH: Final = "/openapi.json"


class Api:
    """The application. Built once per process by bootstrap; `openapi` is the document's bytes."""

    def __init__(self, services: Services, registry: Registry, openapi: bytes) -> None:
        self._services = services
        self._registry = registry
        self._openapi = openapi
        self.answered = Answered()

    async def answer(self, incoming: Incoming) -> Outgoing:
        """Answer one request, whatever it is. Raises HungUpError when there is nobody to answer."""
        request = Request(incoming, self._services.ids.new("req"), self._services.clock.now())
        reply = await self._guarded(request)
        return self.answered.note(outgoing_of(reply, request.id, key=request.key, account=request.account))

    def refuse(self, refusal: Refusal) -> Outgoing:
        """The answer to what is no request, or cannot be taken."""
        request_id = self._services.ids.new("req")
        retry_after = RETRY_AFTER_SECONDS if refusal.status == 503 else None
        return self.answered.note(outgoing_of(refusal_reply(refusal, request_id, problem=False, retry_after=retry_after), request_id))

    async def _guarded(self, request: Request) -> Reply:
        """The reply, whatever happens."""
        retry_after: int | None = None
        try:
            return await self._reply(request)
        except Refusal as error:
            refusal = error
        except Unavailable as error:
            _log.warning("request_unavailable", problem=str(error), **_about(request))
            refusal, retry_after = _unavailable(), RETRY_AFTER_SECONDS
        except (ResultUnknown, Again) as error:
            _log.warning("request_result_unknown", problem=str(error), **_about(request))
            # A read stores nothing, so nothing about it can be unknown.
            refusal = _unavailable() if request.method == "GET" else _unknown(request.method)
        except HungUpError:
            raise
        except Exception:
            _log.exception("request_failed", **_about(request))
            refusal = _unknown(request.method)
        return refusal_reply(refusal, request.id, problem=request.wants_problem, retry_after=retry_after)

    async def _reply(self, request: Request) -> Reply:
        if request.path == OPENAPI_PATH and request.method == "GET":
            return Reply(body=self._openapi)
        if request.method != "GET":
            self._services.must_be_writable()
        if request.path.startswith(PSP_PATH):
            return await take_notification(self._services, request)
        route, ids = self._registry.find(request.method, request.path)
        caller = await caller_of(request.headers, self._services.authenticate)
        if b"stripe-account" in request.headers:
            request.account = caller.account
        if caller.kind == "publishable" and not route.publishable:
            raise secret_key_required()
        call = Call(self._services, caller, request, ids)
        if request.method == "POST":
            return await self._post(call, route, request)
        tree = parse_form(request.query)
        if request.method == "DELETE":
            tree = {**tree, **parse_form(await request.body(route.body_max))}
        return await _from_replica(call, route, tree) or await _handle(call, route, tree)

    async def _post(self, call: Call, route: Route, request: Request) -> Reply:
        """A POST under its key: whatever depends on state is answered only after the key was looked up."""
        given = idempotency_key(request.headers)
        # A key of ours is as unique as the request that it is made for.
        request.key = call.key = given or request.id.replace("req", "key", 1)
        call.key_given = given is not None
        as_json = is_json(request.headers)
        body = await request.body(route.body_max)
        unreadable: Refusal | None = None
        tree: Tree = {}
        try:
            tree = _tree_of(request, route, body, as_json=as_json)
            if route.own_id is None or tree.get(route.own_id) is None:
                await self._claim(call, request, as_texts(tree) if as_json else tree)
        except Refusal as refusal:
            unreadable = refusal
            self._claim_unreadable(call, request, body)
        try:
            if unreadable is not None:
                raise unreadable
            return await _handle(call, route, tree, strict=as_json)
        except Refusal as refusal:
            if given is None or refusal.status not in _MAY_HIDE_AN_ANSWER or refusal.facts.type == "idempotency_error":
                raise
            if call.claim_or_none is None:
                raise
            stored = await look(self._services.db, call.claim)
            if stored is None or not route.claims_key:
                raise
            return await call.result(stored)

    async def _claim(self, call: Call, request: Request, texts: Tree) -> None:
        services = self._services
        fingerprint = await fingerprint_of(
            request.method,
            request.path,
            texts,
            keyed=services.fingerprint,
            card_fingerprints=services.card_fingerprints,
        )
        expand = texts.get("expand")
        # Not known to be right yet; a wrong one is refused before the claim is used.
        paths = tuple(path for path in expand if isinstance(path, str)) if isinstance(expand, list) else ()
        call.claim_or_none = _claim_of(call, request, fingerprint, paths)

    def _claim_unreadable(self, call: Call, request: Request, body: bytes) -> None:
        fingerprint = fingerprint_of_bytes(request.method, request.path, body, self._services.fingerprint)
        call.claim_or_none = _claim_of(call, request, fingerprint, ())


def _claim_of(call: Call, request: Request, fingerprint: bytes, expand: tuple[str, ...]) -> Claim:
    return Claim(
        account=call.account,
        livemode=call.livemode,
        key=call.key or "",
        fingerprint=fingerprint,
        request_id=request.id,
        expand=expand,
        deadline=None if (waits := timeout_micros(request.headers)) is None else request.came + waits,
    )


async def _from_replica(call: Call, route: Route, tree: Tree) -> Reply | None:
    """The answer of a route that may lag, as the replica has it; None where there is none, or it cannot tell.

    What it refuses is the primary's to refuse: a cursor or a customer may only not have come there yet.
    """
    replica = call.services.replica
    if not route.may_lag or replica is None:
        return None
    try:
        async with replica.patience():
            if (age := await replica.age()) is None:
                return None
            call.reads = replica.db
            return replace(await _handle(call, route, tree), age_seconds=age)
    except (Refusal, Unavailable, ResultUnknown, Again):
        return None
    finally:
        call.reads = call.services.db


def _tree_of(request: Request, route: Route, body: bytes, *, as_json: bool) -> Tree:
    """The body's parameters. Those of a POST stand nowhere else: what an address carries too would be told to every log."""
    if request.query:
        raise Refusal("The parameters of a POST request belong into its body, not into its address.")
    return parse_json(body) if as_json else parse_form(body, route.count_max)


async def _handle(call: Call, route: Route, tree: Tree, *, strict: bool = False) -> Reply:
    params = read(tree, route.params, strict=strict)
    if params.expand:
        call.expand = check_expand(params.expand, route.answers, of_list=route.of_list)
    return await route.handle(call, params)


def _about(request: Request) -> dict[str, str]:
    """What a log line says of a request; its parameters never stand there."""
    return {"request_id": request.id, "method": request.method, "path": request.path}


def _unavailable() -> Refusal:
    return Refusal(
        "Service is not possible at the moment, and nothing was stored. Please repeat the request.",
        status=503,
        type="api_error",
        should_retry=True,
    )


def _unknown(method: str) -> Refusal:
    """What a request is told whose result we cannot know: an answer never lies (DESIGN 2.6)."""
    if method != "POST":
        return Refusal("Something went wrong on our side.", status=500, type="api_error", should_retry=False)
    return Refusal(
        "The result of this request is not known yet; repeat it with the same idempotency key.",
        status=500,
        type="api_error",
        should_retry=True,
    )
