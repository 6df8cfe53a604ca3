"""The whole chain for tests of the API: the real roles, in one process and loop, spoken to over HTTP on a port of their own.

One world serves a module; each test takes a merchant of its own, so none sees what another one made.
"""

import asyncio
import importlib.util
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from databases import drop_database
from guilder import bootstrap
from guilder.config import Ports, Settings
from guilder.db import Database
from guilder.merchants import Merchants
from guilder.role import Context
from guilder.security import make_key_file

READY_SECONDS_MAX = 20.0


class Answer(Struct, frozen=True, kw_only=True):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    def __getitem__(self, name: str) -> Any:
        return self.json[name]


class Merchant(Struct, frozen=True, kw_only=True):
    """A merchant of one test's own, with its keys."""

    id: str
    secret: str
    publishable: str
    live_secret: str


class ApiWorld:
    """The running roles."""

    def __init__(self, settings: Settings, sockets: Mapping[str, socket.socket]) -> None:
        self.settings = settings
        self._sockets = sockets
        self._running: list[tuple[Context, asyncio.Task[None]]] = []
        self.db: Database
        self.merchants: Merchants

    @property
    def base(self) -> str:
        """The address that an SDK is pointed at."""
        return f"http://127.0.0.1:{self.settings.ports.api}"

    async def start(self, *roles: str) -> None:
        """Start these roles, one after the other."""
        for role in roles:
            ready = asyncio.Event()
            names = bootstrap.SOCKETS.get(role, ())
            context = Context(
                role, self.settings, predecessor=None, sockets={name: self._sockets[name] for name in names},
                tell=lambda word, ready=ready: ready.set() if word == "ready" else None,
            )  # fmt: skip
            task = asyncio.ensure_future(bootstrap.ROLES[role](self.settings, context))
            self._running.append((context, task))
            waiting = asyncio.ensure_future(ready.wait())
            await asyncio.wait({task, waiting}, timeout=READY_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if task.done():
                task.result()
            assert ready.is_set(), f"{role} is not ready"

    async def stop(self, *roles: str) -> None:
        """Stop these roles, all where none is named, the last one first."""
        chosen = [one for one in self._running if not roles or one[0].name in roles]
        for context, task in reversed(chosen):
            context.stop.set()
            await asyncio.wait({task}, timeout=5)
            task.cancel()
        await asyncio.gather(*(task for _, task in chosen), return_exceptions=True)
        self._running = [one for one in self._running if one not in chosen]

    async def merchant(self) -> Merchant:
        """A new merchant with all its keys."""
        facts = await self.merchants.create(name="Test Shop")
        keys = {
            (kind, livemode): (await self.merchants.create_key(facts.id, livemode=livemode, kind=kind))[1].reveal()
            for kind, livemode in (("secret", False), ("publishable", False), ("secret", True))
        }
        return Merchant(
            id=facts.id,
            secret=keys["secret", False],
            publishable=keys["publishable", False],
            live_secret=keys["secret", True],
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own, byte for byte as given."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.settings.ports.api)
        try:
            head = {"Host": "guilder", "Connection": "close", **({"Authorization": f"Bearer {key}"} if key else {})}
            head |= (
                {"Content-Length": str(len(body))}
                if (body or method == "POST") and "Transfer-Encoding" not in (headers or {})
                else {}
            )
            head |= headers or {}
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            await writer.drain()
            answer = _parsed(await reader.read())
        finally:
            writer.close()
        check_schema(answer)
        return answer

    async def browse(
        self, url: str, *, form: Mapping[str, str] | None = None, json: Any = None, method: str | None = None,
    ) -> Answer:  # fmt: skip
        """What a browser gets at an address, without cookies; redirects are not followed."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            body = dumps(json).encode() if json is not None else urlencode(form or {}).encode()
            method = method or ("GET" if form is None and json is None else "POST")
            head = f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
            head += "" if method != "POST" else f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}\r\n".encode() + body)
            await writer.drain()
            return _parsed(await reader.read())
        finally:
            writer.close()

    async def get(self, path: str, key: str, **query: Any) -> Answer:
        """GET with these parameters; nested ones in brackets."""
        text = urlencode(_pairs(query))
        return await self.send("GET", f"{path}?{text}" if text else path, key=key)

    async def post(self, path: str, key: str, /, *, idempotency_key: str | None = None, **form: Any) -> Answer:
        """POST a form as the SDKs do."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return await self.send("POST", path, key=key, body=urlencode(_pairs(form)).encode(), headers=headers)


@cache
def _validate() -> Callable[[Any], list[str]] | None:
    """The check against the published schemas, where its folder is present; it is not part of the project."""
    path = Path(__file__).resolve().parents[3] / "shared" / "tools" / "validate_stripe.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("validate_stripe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.validate


def check_schema(answer: Answer) -> None:
    """Every answer of a resource that is Stripe's too has Stripe's shape, also errors; checked wherever that can be."""
    validate = _validate()
    if validate is None or answer.headers.get("content-type") != "application/json":
        return
    # A type of our own, which has the shape of those that send a buyer somewhere.
    shown = json.loads(answer.body.replace(b'"psp_page"', b'"alipay"'))
    if (
        "openapi" in shown
        or shown == {"received": True}
        or str(shown.get("object", "")).startswith(("ledger.", "webhook_delivery", "dead_letter"))
        or str(shown.get("url", "")).startswith(("/v1/webhook_deliveries", "/v1/ledger", "/v1/dead_letters"))
    ):
        return
    assert validate(shown) == [], shown


def _parsed(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(status=int(first.split()[1]), headers=headers, body=body)


def _pairs(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A tree as the SDKs write it: names and indices in brackets, booleans as words."""
    if isinstance(value, dict):
        return [pair for key, member in value.items() for pair in _pairs(member, f"{name}[{key}]" if name else key)]
    if isinstance(value, list | tuple):
        return [pair for index, member in enumerate(value) for pair in _pairs(member, f"{name}[{index}]")]
    words = {True: "true", False: "false", None: ""}
    return [(name, words[value] if value is None or isinstance(value, bool) else str(value))]


@asynccontextmanager
async def fresh_database(server: Mapping[str, str], name: str) -> AsyncIterator[str]:
    """The address of a migrated database that lives as long as the block."""
    admin = await asyncpg.connect(server["admin"])
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {server['template']}")
        try:
            yield server["dsn"].replace("DATABASE", name)
        finally:
            await drop_database(admin, name)
    finally:
        await admin.close()


@asynccontextmanager
async def api_world(dsn: str, folder: Path, **changes: Any) -> AsyncIterator[ApiWorld]:
    """The roles that take a payment, running until the block ends; worker and checkout are for tests that start them."""
    sockets = {name: _listener() for name in ("api", "checkout", "network_http", "network_iso")}
    ports = {name: opened.getsockname()[1] for name, opened in sockets.items()}
    settings = replace(
        Settings.load({}, {"data_dir": folder, "database_url": dsn}),
        ports=Ports(dashboard=0, **ports), **changes,
    )  # fmt: skip
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in (settings.master_key_file, settings.app_key_file):
        make_key_file(file)
    world = ApiWorld(settings, sockets)
    world.db = await Database.connect(dsn, role="guilder_app", max_size=2, name="test")
    async with bootstrap.merchants(settings) as merchants:
        world.merchants = merchants
        try:
            await world.start("vault", "network", "executor", "api")
            yield world
        finally:
            await world.stop()
            await world.db.close()
            # A role that no test has started has not taken its own.
            for opened in sockets.values():
                opened.close()


def _listener() -> socket.socket:
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("127.0.0.1", 0))
    opened.listen(100)
    return opened


def database_name(module: str) -> str:
    """A name that no other module or worker of this run has."""
    return f"test_{os.getpid()}_{module}"
