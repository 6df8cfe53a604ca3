"""What clients are told when a part is gone: 503 only when nothing was stored, and service again by itself."""

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest_asyncio
from api_world import ApiWorld, api_world, database_name, fresh_database

CARD = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040}
PAY = {"amount": 1999, "currency": "eur"}


class Proxy:
    """A way to the database that can be cut: whoever was connected is hung up on, and nobody gets in."""

    def __init__(self, to: str, path: Path) -> None:
        self._to = to
        self._path = path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        """Let callers through."""
        self._server = await asyncio.start_unix_server(self._through, self._path)

    async def cut(self) -> None:
        """Hang up on everybody."""
        self._server.close()
        self._path.unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._to)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()
        self._open.discard(writer)


@pytest_asyncio.fixture
async def proxy(server, tmp_path):
    """The way that the chain takes to the database."""
    [folder] = parse_qs(urlsplit(server["dsn"]).query)["host"]
    way = Proxy(f"{folder}/.s.PGSQL.5432", tmp_path / ".s.PGSQL.5432")
    await way.mend()
    yield way
    await way.cut()


@pytest_asyncio.fixture
async def api(server, tmp_path, proxy):
    """The chain, for one test, with the proxy between it and the database."""
    async with fresh_database(server, database_name("outages")) as dsn:
        parts = urlsplit(dsn)
        query = {**{name: values[0] for name, values in parse_qs(parts.query).items()}, "host": str(tmp_path)}
        async with api_world(urlunsplit(parts._replace(query=urlencode(query))), tmp_path) as world:
            yield world


def unavailable(answer) -> bool:
    """503 as documented: nothing was stored, come again."""
    return (
        answer.status == 503
        and answer.error["type"] == "api_error"
        and answer.headers["stripe-should-retry"] == "true"
        and int(answer.headers["retry-after"]) > 0
    )


async def test_without_the_vault_cards_are_refused_and_the_rest_goes_on(api: ApiWorld):
    """503 for what needs it; the same key works once it is back."""
    merchant = await api.merchant()
    await api.stop("vault")
    form = {"type": "card", "card": CARD}
    assert unavailable(await api.post("/v1/payment_methods", merchant.secret, **form, idempotency_key="k"))
    assert (await api.post("/v1/payment_intents", merchant.secret, **PAY)).status == 200
    await api.start("vault")
    assert (await api.post("/v1/payment_methods", merchant.secret, **form, idempotency_key="k")).status == 200


async def test_without_the_database_nothing_is_stored_and_service_comes_back(api: ApiWorld, proxy: Proxy):
    """503 for reads and writes; the same request with the same key runs when the database is back, once."""
    merchant = await api.merchant()
    assert (await api.get("/v1/balance", merchant.secret)).status == 200
    await api.stop("executor")
    await proxy.cut()
    for answer in (
        await api.get("/v1/balance", merchant.secret),
        await api.post("/v1/payment_intents", merchant.secret, **PAY, idempotency_key="k"),
        await api.post("/v1/customers", merchant.secret, idempotency_key="c"),
    ):
        assert unavailable(answer), answer
    await proxy.mend()
    made = await api.post("/v1/payment_intents", merchant.secret, **PAY, idempotency_key="k")
    assert made.status == 200
    assert (await api.post("/v1/payment_intents", merchant.secret, **PAY, idempotency_key="k")).body == made.body
    assert [one["id"] for one in (await api.get("/v1/payment_intents", merchant.secret))["data"]] == [made["id"]]
