"""Deliveries over TLS: who is believed to be the receiver, and what is said when it is not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
import pytest_asyncio
import stripe
from webhook_world import ACCOUNT, WebhookWorld, webhook_world

from certificates import Authority
from guilder.db.pages import Page
from guilder.webhooks import Allowed
from guilder.webhooks.connection import Answered
from guilder.webhooks.transport import Transport, Unreached
from receiver import OK, Receiver, answer

HOST = "shop.example"
HERE = ("127.0.0.1",)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this machine trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


@pytest_asyncio.fixture
async def world(database: str) -> AsyncIterator[WebhookWorld]:
    """A room without a worker."""
    async with webhook_world(database) as running:
        yield running


async def here(_host: str, _port: int) -> tuple[str, ...]:
    return HERE


async def test_a_receiver_whose_authority_is_trusted_gets_its_events(world: WebhookWorld, authority: Authority):
    """It is asked for by the name in the address, over one connection, and nothing of TLS changes the signature."""
    names: list[str | None] = []
    tls = authority.server(HOST)
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    receiver = await Receiver().start(tls=tls)
    endpoint = await world.endpoint(f"https://{HOST}:{receiver.port}/webhooks")
    await world.worker(lookup=here)
    try:
        for _ in range(3):
            await world.announce("payment_intent.succeeded")
            await world.settled(receiver.count or 1)
        await world.settled(3)
    finally:
        await receiver.close()
    assert set(names) == {HOST}
    assert receiver.connections == len(names) <= 3
    request = receiver.requests[0]
    stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], world.secret(endpoint))


@pytest.mark.parametrize(
    ("host", "options", "trusted", "reason"),
    [
        ("other.example", {}, True, "Hostname mismatch, certificate is not valid for 'shop.example'."),
        (HOST, {"ends_in": timedelta(days=-1)}, True, "certificate has expired"),
        (HOST, {"self_signed": True}, True, "self-signed certificate"),
        (HOST, {}, False, "unable to get local issuer certificate"),
    ],
    ids=["another name", "expired", "self-signed", "an authority that nobody trusts"],
)
async def test_a_certificate_that_proves_nothing_is_refused_and_the_delivery_says_why(
    world: WebhookWorld, authority: Authority, monkeypatch: pytest.MonkeyPatch, host, options, trusted, reason,
):  # fmt: skip
    """No byte of the event is sent; it goes on being tried, because certificates are renewed."""
    if not trusted:
        monkeypatch.delenv("SSL_CERT_FILE")
    receiver = await Receiver().start(tls=authority.server(host, **options))
    await world.endpoint(f"https://{HOST}:{receiver.port}/webhooks")
    await world.worker(lookup=here)
    await world.announce("payment_intent.succeeded")

    async def tried() -> bool:
        return await world.db.fetchval("SELECT tries FROM webhook_delivery") == 1

    try:
        await world.until(tried)
    finally:
        await receiver.close()
    [listed], _ = await world.deliveries.list(ACCOUNT, Page(), livemode=False)
    [attempt] = (await world.deliveries.retrieve(ACCOUNT, listed.id, livemode=False)).attempts
    assert (attempt.status, attempt.failure) == (None, f"the certificate is not valid: {reason}")
    assert (listed.state, receiver.count) == ("pending", 0)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [(OK, ("no TLS connection: wrong version number", "no TLS connection: record layer failure")),
     (b"", ("the connection was closed without an answer",))],
    ids=["HTTP", "nothing"],
)  # fmt: skip
async def test_a_receiver_that_speaks_no_tls_gets_nothing(answers: bytes, reason: tuple[str, ...]):
    """The reason is in plain words, and what it says is not taken for an answer."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4_096))
        writer.write(answers)
        writer.transport.abort() if not answers else writer.close()

    heard: list[bytes] = []
    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = Transport(Allowed(networks=(ip_network("127.0.0.0/8"),)), lambda: True, here)
    try:
        outcome = await transport.post(f"https://{HOST}:{port}/", {}, b"a secret body")
    finally:
        await transport.close()
        server.close()
    assert isinstance(outcome, Unreached)
    assert outcome.why in reason
    assert len(heard) == 1
    assert b"a secret body" not in heard[0]


async def test_a_protocol_that_is_no_longer_safe_is_not_spoken(authority: Authority):
    """At least TLS 1.2."""
    tls = authority.server(HOST)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    receiver = await Receiver().start(tls=tls)
    transport = Transport(Allowed(networks=(ip_network("127.0.0.0/8"),)), lambda: True, here)
    try:
        outcome = await transport.post(f"https://{HOST}:{receiver.port}/", {}, b"{}")
    finally:
        await transport.close()
        await receiver.close()
    assert isinstance(outcome, Unreached)
    assert receiver.count == 0


async def test_a_good_certificate_opens_no_private_network(authority: Authority):
    """The name may move to a private address and its certificate with it: the address of the connection counts, before a byte is sent."""
    tls = authority.server(HOST)
    private = await Receiver().start(tls=tls)
    public = await Receiver().start(private.port, "127.0.0.2", tls=tls)
    public.behave = lambda _request: answer(200, Connection="close")
    addresses = iter(["127.0.0.2", "127.0.0.1", "::ffff:127.0.0.1"])

    async def lookup(_host: str, _port: int) -> list[str]:
        return [next(addresses)]

    transport = Transport(Allowed(networks=(ip_network("127.0.0.2/32"),)), lambda: True, lookup)
    try:
        outcomes = [await transport.post(f"https://{HOST}:{private.port}/", {}, b"{}") for _ in range(3)]
    finally:
        await transport.close()
        await private.close()
        await public.close()
    assert outcomes[0] == Answered(200, b"")
    assert all(isinstance(one, Unreached) and "is not a public address" in one.why for one in outcomes[1:])
    assert (public.count, private.connections) == (1, 0)


async def test_an_address_by_number_needs_a_certificate_for_that_number(authority: Authority):
    """One for a name does not prove it."""
    receiver = await Receiver().start(tls=authority.server(HOST))
    transport = Transport(Allowed(networks=(ip_network("127.0.0.0/8"),)), lambda: True)
    try:
        outcome = await transport.post(f"https://127.0.0.1:{receiver.port}/", {}, b"{}")
    finally:
        await transport.close()
        await receiver.close()
    assert isinstance(outcome, Unreached)
    assert outcome.why == "the certificate is not valid: IP address mismatch, certificate is not valid for '127.0.0.1'."
