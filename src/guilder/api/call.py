"""One request under way: who calls, under which key, and how its answer becomes bytes."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from guilder.api.http import PROBLEM, Reply, Request
from guilder.api.params import Created, PageParams
from guilder.api.services import Services
from guilder.core.ensure import ensure
from guilder.core.errors import ErrorFacts, Refusal, ResultUnknown, Unavailable
from guilder.db import Connection
from guilder.db.pages import Page
from guilder.idempotency import Claim, Result, look, once
from guilder.log import NewEvent, announce
from guilder.merchants import Caller
from guilder.payments.accept import refuse
from guilder.payments.answers import included_in
from guilder.shapes.expand import DEPTH_MAX, unexpandable, wanted
from guilder.shapes.facts import SHAPE, Answer, Facts, WebhookEndpointFacts
from guilder.shapes.render import encode_json, envelope, personal_ids, render_answer, render_error, render_list, render_object


class Done(Struct, frozen=True):
    """What an effect leaves: the object to show, and its events as (type, object, previous_attributes as JSON)."""

    root: Facts
    events: tuple[tuple[str, Facts, bytes], ...] = ()


Effect = Callable[[Connection], Awaitable[Done]]

HTTP_TITLES: Final[Mapping[int, str]] = {
    400: "Bad request",
    401: "Unauthorized",
    402: "Request failed",
    403: "Forbidden",
    404: "Not found",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    414: "Address too long",
    429: "Too many requests",
    431: "Headers too large",
    500: "Internal error",
    503: "Service unavailable",
}


class Call:
    """What a handler is handed beside its parameters.

    Attributes:
        ids: what stood in the path's braces.
        claim: the request's claim on its idempotency key; only a POST whose route claims one has it.
        key: the idempotency key of a POST.
        reads: where lists are read; a replica's where the route may lag.
        key_given: whether the client sent the key; one that we made cannot have been seen before.
    """

    __slots__ = (
        "account",
        "claim_or_none",
        "expand",
        "ids",
        "key",
        "key_given",
        "livemode",
        "path",
        "problem",
        "publishable",
        "reads",
        "request_id",
        "services",
    )

    def __init__(self, services: Services, caller: Caller, request: Request, ids: tuple[str, ...]) -> None:
        self.services = services
        self.reads = services.db
        self.account = caller.account
        self.livemode = caller.livemode
        self.publishable = caller.kind == "publishable"
        self.request_id = request.id
        self.path = request.path
        self.problem = request.wants_problem
        self.ids = ids
        self.expand: tuple[str, ...] = ()
        self.claim_or_none: Claim | None = None
        self.key: str | None = None
        self.key_given = False

    @property
    def claim(self) -> Claim:
        """The claim on the key."""
        ensure(self.claim_or_none is not None, "every POST has a claim", path=self.path)
        return self.claim_or_none  # type: ignore[return-value]

    # --- answers --------------------------------------------------------------------------------------------------

    async def result(self, result: Result) -> Reply:
        """The stored answer as bytes, the same ones each time.

        Raises ResultUnknown when its personal data cannot be read now: the effect stands, so "nothing was stored" would be a lie.
        """
        try:
            return await self.answer(result.answer, replayed=result.replayed)
        except Unavailable as error:
            raise ResultUnknown(str(error)) from error

    async def answer(self, answer: Answer, *, replayed: bool = False) -> Reply:
        """An answer as bytes, with its personal data as it may be seen now."""
        objects = (answer.root, *answer.included) if answer.root is not None else ()
        personal = await self.personal(objects) if objects else {}
        problem = problem_members(answer.status, answer.error, self.request_id) if self.problem and answer.error else None
        body = render_answer(answer, personal, client_side=self.publishable, problem=problem)
        return Reply(
            body=body,
            status=answer.status,
            replayed=replayed,
            content_type=PROBLEM if problem else b"application/json",
            should_retry=False if answer.error is not None else None,
        )

    async def answered(self) -> Reply | None:
        """The stored answer, for handlers that store something before the verb's own look at the key; None for a new key."""
        stored = await look(self.services.db, self.claim) if self.key_given else None
        return None if stored is None else await self.result(stored)

    async def refused(self, refusal: Refusal) -> Reply:
        """The answer to what the state does not allow: stored under the key, or the one that stands there. Raises what is never stored."""
        return await self.result(await refuse(self.services.payments, self.claim, refusal))

    async def show(self, facts: Facts) -> Reply:
        """One object that was read, with what `expand` asks for."""
        included = await self.load((facts,)) if self.expand else ()
        personal = await self.personal((facts, *included))
        return Reply(body=render_object(facts, personal, expand=self.expand, included=included, client_side=self.publishable))

    async def show_list(self, objects: Sequence[Facts], more: bool) -> Reply:
        """A page of objects."""
        included = await self.load(objects) if self.expand else ()
        personal = await self.personal((*objects, *included))
        body = render_list(objects, personal, url=self.path, has_more=more, expand=self.expand, included=included)
        return Reply(body=body)

    def plain(self, value: object, *, replayed: bool = False) -> Reply:
        """Something that is no fact: already a dict or a struct in the shape of the wire."""
        return Reply(body=encode_json(value), replayed=replayed)

    def plain_list(self, data: Sequence[object], *, more: bool, replayed: bool = False) -> Reply:
        """A list of such values."""
        return Reply(body=envelope(data, url=self.path, has_more=more), replayed=replayed)

    # --- reads ----------------------------------------------------------------------------------------------------

    async def personal(self, objects: Collection[Facts]) -> Mapping[str, Mapping[str, Any]]:
        """What these objects hold sealed, opened: personal records (what was erased is not there), an endpoint's new secret."""
        ids = personal_ids(objects)
        records = await self.services.personal.open_many(self.account, ids, livemode=self.livemode) if ids else {}
        for one in objects:
            if isinstance(one, WebhookEndpointFacts) and one.sealed:
                records[one.id] = {"secret": self.services.endpoints.open(self.account, one).reveal()}
        return records

    async def load(self, roots: Sequence[Facts]) -> tuple[Facts, ...]:
        """What `expand` puts in place of ids, for all of these objects together."""
        loader = self.services.load(self.account, self.livemode)
        found: dict[str, Facts] = {}
        for _ in range(DEPTH_MAX):
            missing = {pair for pair in wanted(roots, self.expand, found) if pair[1] not in found}
            loaded = await loader(missing) if missing else {}
            if not loaded:
                break
            found.update(loaded)
        return tuple(found.values())

    async def once(self, effect: Effect) -> Reply:
        """Run the effect, its events and its answer under the key, in one transaction."""
        services = self.services

        async def answer(connection: Connection) -> Answer:
            done = await effect(connection)
            loader = services.load(self.account, self.livemode, connection)
            included = await included_in(done.root, self.expand, {}, loader) if self.expand else ()
            await self.announce(connection, done)
            return Answer(SHAPE, 200, done.root, None, self.expand, included)

        return await self.result(await once(services.db, self.claim, services.clock.now(), answer))

    async def announce(self, connection: Connection, done: Done) -> None:
        """Store the events of an effect; the last write but for the answer."""
        services, claim = self.services, self.claim_or_none
        events = [
            NewEvent(
                id=services.ids.new("evt"), account=self.account, type=type_, object=facts, previous=previous,
                request_id=self.request_id, idempotency_key=None if claim is None else claim.key,
            )
            for type_, facts, previous in done.events
        ]  # fmt: skip
        key = getattr(done.root, "id", self.account)
        await announce(connection, livemode=self.livemode, now=services.clock.now(), key=key, events=events)


def check_expand(expand: Sequence[str], answers: str, *, of_list: bool) -> tuple[str, ...]:
    """The paths to expand, without a list's `data.`. Raises Refusal (400) for what cannot be expanded."""
    for path in expand:
        inside = path.removeprefix("data.") if of_list else path
        if (of_list and not path.startswith("data.")) or unexpandable(answers, inside) is not None:
            hint = ""
            if of_list and not path.startswith("data.") and unexpandable(answers, path) is None:
                hint = f" You may want to try expanding 'data.{path}' instead."
            raise Refusal(f"This property cannot be expanded ({path[:100]}).{hint}", param="expand")
    return tuple(path.removeprefix("data.") for path in expand) if of_list else tuple(expand)


def page_of(params: PageParams) -> Page:
    """The page that a list's parameters ask for."""
    since, until = None, None
    created = getattr(params, "created", None)
    if isinstance(created, int):
        since, until = created, created + 1
    elif isinstance(created, Created):
        lows = [value + step for value, step in ((created.gt, 1), (created.gte, 0)) if isinstance(value, int)]
        highs = [value + step for value, step in ((created.lt, 0), (created.lte, 1)) if isinstance(value, int)]
        since, until = max(lows, default=None), min(highs, default=None)
    return Page(
        limit=params.limit,
        starting_after=params.starting_after,
        ending_before=params.ending_before,
        since=since,
        until=until,
    )


def problem_members(status: int, error: ErrorFacts, request_id: str) -> dict[str, Any]:
    """RFC 9457's members for the same error."""
    return {
        "type": f"urn:guilder:error:{error.code}" if error.code else "about:blank",
        "title": HTTP_TITLES.get(status, "Error"),
        "status": status,
        "detail": error.message,
        "instance": f"urn:guilder:request:{request_id}",
    }


def refusal_reply(refusal: Refusal, request_id: str, *, problem: bool, retry_after: int | None = None) -> Reply:
    """A refusal as bytes."""
    members = problem_members(refusal.status, refusal.facts, request_id) if problem else None
    return Reply(
        body=render_error(refusal.facts, members),
        status=refusal.status,
        should_retry=refusal.should_retry,
        retry_after=retry_after,
        content_type=PROBLEM if problem else b"application/json",
    )
