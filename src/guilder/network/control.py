"""The control port: what really happened, faults, accounts.

    GET    /health              {"status": "ok", ...}
    GET    /truth               every effect, one JSON object a line; ?reference= those of one operation
    GET    /faults              the rules that are switched on
    POST   /faults              switch a rule on
    DELETE /faults              switch all off, or ?id= one
    GET    /accounts            card accounts and their balances; ?name= one
    GET    /challenge/...       the issuer's page at which a buyer answers a challenge
    POST   /challenge/...       his answer
    POST   /accounts            open accounts: {"bin", "count", "terms"} or {"number", "terms"}
    ...    /web/...             the web PSP, where it has a merchant (web/desk.py)

Documents are JSON; errors are {"error": "what would be right"}.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct

from guilder.core.clock import Clock
from guilder.network.challenge_page import CHALLENGES, ChallengePage
from guilder.network.errors import BadRequest
from guilder.network.faults import Faults, read_rule
from guilder.network.http import HEAD_BYTES_MAX, Request, Response, Route, converse
from guilder.network.issuer import Account, Terms
from guilder.network.truth import pieces
from guilder.network.world import World

# Accounts in one answer; ask for one by its name to see it beyond that.
ACCOUNTS_SHOWN_MAX: Final = 1000
# Connections that wait to be taken: a payment system that starts opens all of its own at once.
BACKLOG: Final = 512


class NewAccounts(Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts to open: `count` with numbers of a BIN, or one with a number of the caller's choice."""

    bin: str | None = None
    count: int = 1
    number: str | None = None
    terms: Terms = Terms()


class Control:
    """Serves the control port over HTTP. `beside`: who answers what is below each of these paths."""

    def __init__(self, world: World, faults: Faults, clock: Clock, beside: Mapping[str, Route]) -> None:
        self._beside = beside
        self._talks: set[asyncio.Task[None]] = set()
        self._world = world
        self._faults = faults
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._challenges = ChallengePage(world)
        self._routes: Mapping[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/health"): self._health,
            ("GET", "/truth"): self._truth,
            ("GET", "/faults"): self._list_faults,
            ("POST", "/faults"): self._add_fault,
            ("DELETE", "/faults"): self._remove_faults,
            ("GET", "/accounts"): self._list_accounts,
            ("POST", "/accounts"): self._open_accounts,
        }

    async def listen(self, host: str, port: int, listener: socket.socket | None = None) -> int:
        """Start to listen, on the socket if one is given; returns the port."""
        if listener is not None:
            self._server = await asyncio.start_server(self._talk, sock=listener, limit=HEAD_BYTES_MAX, backlog=BACKLOG)
        else:
            self._server = await asyncio.start_server(self._talk, host, port, limit=HEAD_BYTES_MAX, backlog=BACKLOG)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def close(self) -> None:
        """Stop listening, and end what is being answered."""
        if self._server:
            self._server.close()
        for talk in self._talks:
            talk.cancel()

    def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A peer has connected."""
        talk = asyncio.get_running_loop().create_task(converse(reader, writer, route=self.answer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def answer(self, request: Request) -> Response:
        """The answer to a request; what cannot be done is 400, an unknown path 404, another method 405."""
        if request.path.startswith(CHALLENGES):
            return self._challenges.answer(request)
        for path, answer in self._beside.items():
            if request.path.startswith(path):
                return await answer(request)
        route = self._routes.get((request.method, request.path))
        try:
            if route is not None:
                return route(request)
        except BadRequest as error:
            return _json({"error": str(error)}, 400)
        if any(path == request.path for _, path in self._routes):
            return _json({"error": f"{request.method} is not possible here"}, 405)
        return _json({"error": "there is nothing here", "paths": sorted({path for _, path in self._routes})}, 404)

    def _health(self, request: Request) -> Response:
        real = self._clock.real()
        return _json({
            "status": "ok",
            "operations": self._world.books.count(),
            "truth_bytes": self._world.truth.size,
            # Microseconds that business time is ahead, as this process sees it.
            "clock_offset": self._clock.now() - real,
        })  # fmt: skip

    def _truth(self, request: Request) -> Response:
        truth = self._world.truth
        lines = pieces(truth.path, truth.size, request.query.get("reference"))
        return Response(lines, content_type="application/x-ndjson")

    def _list_faults(self, request: Request) -> Response:
        return _json({"faults": self._faults.all()})

    def _add_fault(self, request: Request) -> Response:
        return _json(self._faults.add(read_rule(request.body)), 201)

    def _remove_faults(self, request: Request) -> Response:
        id_ = request.query.get("id")
        removed = self._faults.remove(id_)
        if id_ is not None and not removed:
            return _json({"error": f"there is no fault {id_}"}, 404)
        return _json({"removed": removed})

    def _list_accounts(self, request: Request) -> Response:
        name = request.query.get("name")
        found = ((issuer, account) for issuer, account in self._world.scheme.accounts() if name in (None, account.name))
        shown = [_account(issuer, account) for issuer, account in islice(found, ACCOUNTS_SHOWN_MAX)]
        return _json({"accounts": shown}, 404 if name and not shown else 200)

    def _open_accounts(self, request: Request) -> Response:
        try:
            new = msgspec.json.decode(request.body, type=NewAccounts)
        except msgspec.MsgspecError as error:
            raise BadRequest(f"not a request for accounts: {error}") from error
        if (new.bin is None) == (new.number is None):
            raise BadRequest("say either `bin` and `count`, or `number`")
        if new.number is not None:
            numbers = self._world.open_given(new.number, new.terms)
        else:
            numbers = self._world.open_run(new.bin or "", new.count, new.terms)
        if not self._world.truth.sync():
            return _json({"error": "the disk is full; the accounts are stored as soon as there is room"}, 503)
        return _json({"numbers": numbers}, 201)


def _account(issuer: str, account: Account) -> dict[str, object]:
    return {
        "issuer": issuer,
        "name": account.name,
        "number": account.masked,
        "terms": account.terms,
        "balances": {
            currency: {"balance": balance, "held": account.held.get(currency, 0)}
            for currency, balance in sorted(account.posted.items())
        },
    }


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document) + b"\n", status)
