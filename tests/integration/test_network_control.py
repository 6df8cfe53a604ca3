"""The control port: health, accounts, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bank_messages import NOON, authorization, capture, purchase
from bank_process import Running, running
from guilder.core.clock import ManualClock
from guilder.iso8583 import Code
from guilder.network.http import BODY_BYTES_MAX
from guilder.network.issuer import passes_luhn
from guilder.network.scheme import COUNT_MAX


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Running]:
    """A bank world on fresh data."""
    async with running(tmp_path, ManualClock(NOON)) as bank:
        yield bank


async def test_health_tells_how_much_is_remembered(bank: Running) -> None:
    """And how far business time is ahead, as this process sees it."""
    await (await bank.peer()).ask(purchase("REF000000001"))
    status, health = await bank.control.ask("GET", "/health")
    assert (status, health["status"], health["operations"], health["clock_offset"]) == (200, "ok", 1, 0)
    assert health["truth_bytes"] > 0


async def test_accounts_are_opened_for_a_bin_and_their_cards_pay(bank: Running) -> None:
    """Numbers pass Luhn and are never given out twice."""
    _, first = await bank.control.ask("POST", "/accounts", {"bin": "411111", "count": 50})
    status, second = await bank.control.ask("POST", "/accounts", {"bin": "411111", "count": 50, "terms": {"cvc": "737"}})
    numbers = first["numbers"] + second["numbers"]
    assert (status, len(set(numbers)), [number for number in numbers if not passes_luhn(number)]) == (201, 100, [])
    peer = await bank.peer()
    assert await peer.code(purchase("REF000000001", number=numbers[0])) == Code.APPROVED
    assert await peer.code(purchase("REF000000002", number=numbers[-1], cvc="123")) == Code.WRONG_CVC
    assert await peer.code(purchase("REF000000003", number=numbers[-1], cvc="737")) == Code.APPROVED


async def test_generated_numbers_leave_out_the_sandbox_cards(bank: Running) -> None:
    """400000 is the BIN of most test cards; the account of the declined card stays what it is."""
    status, opened = await bank.control.ask("POST", "/accounts", {"bin": "400000", "count": 1000})
    assert status == 201
    assert "4000000000000002" not in opened["numbers"]
    assert await (await bank.peer()).code(purchase("REF000000001", number="4000000000000002")) == Code.DO_NOT_HONOR


async def test_balances_are_checked_and_moved(bank: Running) -> None:
    """What an account was opened with, less what was captured, and what is held."""
    _, opened = await bank.control.ask("POST", "/accounts", {"number": "4111111111111111", "terms": {"opening_major": 100}})
    assert opened == {"numbers": ["4111111111111111"]}
    peer = await bank.peer()
    assert await peer.code(authorization("REF000000001", 6000, number="4111111111111111")) == Code.APPROVED
    assert await peer.code(capture("REF000000002", "REF000000001", 1000)) == Code.APPROVED
    assert await peer.code(authorization("REF000000003", 2500, number="4111111111111111")) == Code.APPROVED
    assert await peer.code(purchase("REF000000004", 6501, number="4111111111111111")) == Code.INSUFFICIENT_FUNDS
    _, listed = await bank.control.ask("GET", "/accounts")
    shown = next(account for account in listed["accounts"] if account["number"] == "411111******1111")
    assert (shown["issuer"], shown["balances"]) == ("visa", {"eur": {"balance": 9000, "held": 2500}})


async def test_one_account_is_shown_by_its_name(bank: Running) -> None:
    """Its number is masked."""
    _, found = await bank.control.ask("GET", "/accounts?name=insufficient_funds")
    assert [(account["number"], account["terms"]["opening_major"]) for account in found["accounts"]] == [("400000******9995", 0)]
    assert (await bank.control.ask("GET", "/accounts?name=nobody"))[0] == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not a request"),
        ({}, "either"),
        ({"bin": "411111", "number": "4111111111111111"}, "either"),
        ({"bin": "4111"}, "digits"),
        ({"bin": "abcdef"}, "digits"),
        ({"bin": "999999"}, "issuer"),
        ({"bin": "411111", "count": 0}, "count"),
        ({"bin": "411111", "count": COUNT_MAX + 1}, "count"),
        ({"number": "4111111111111112"}, "Luhn"),
        ({"number": "41"}, "digits"),
        ({"number": "9111111111111111"}, "Luhn|issuer"),
        ({"number": "4242424242424242"}, "exists"),
        ({"bin": "411111", "terms": {"refunds": "never"}}, "never"),
        ({"bin": "411111", "colour": "red"}, "colour"),
    ],
)
async def test_accounts_that_cannot_be_are_refused_with_the_reason(bank: Running, body: object, reason: str) -> None:
    """400, and nothing is stored."""
    status, answer = await bank.control.ask("POST", "/accounts", body)
    assert status == 400
    assert any(word in answer["error"] for word in reason.split("|"))


async def test_a_bin_runs_out_of_numbers(bank: Running) -> None:
    """Nine digits of BIN leave six for the account."""
    for _ in range(9):
        assert (await bank.control.ask("POST", "/accounts", {"bin": "411111111", "count": COUNT_MAX}))[0] == 201
    status, answer = await bank.control.ask("POST", "/accounts", {"bin": "411111111", "count": COUNT_MAX})
    assert (status, answer["error"]) == (400, "this `bin` has no numbers left")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/nothing", 404), ("PUT", "/truth", 405), ("POST", "/health", 405), ("DELETE", "/accounts", 405)],
)
async def test_what_is_not_there_is_said_so(bank: Running, method: str, path: str, status: int) -> None:
    """404 for a path, 405 for a method."""
    assert (await bank.control.ask(method, path))[0] == status


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /faults HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /faults HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1),
        b"POST /faults HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET http://[/ HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_400(bank: Running, request_bytes: bytes) -> None:
    """And the port serves the next one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bank.addresses.http_port)
    writer.write(request_bytes)
    async with asyncio.timeout(10):
        assert (await reader.read(65536)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await bank.control.ask("GET", "/health"))[0] == 200


async def test_a_client_that_goes_away_is_no_error(bank: Running) -> None:
    """In the middle of its request, or of a long answer."""
    peer = await bank.peer()
    peer.send(*(purchase(f"REF{index:09d}") for index in range(3000)))
    for _ in range(3000):
        await peer.receive()
    for request_bytes in (b"GET /tr", b"GET /truth HTTP/1.1\r\n\r\n"):
        _, writer = await asyncio.open_connection("127.0.0.1", bank.addresses.http_port)
        writer.write(request_bytes)
        await writer.drain()
        writer.transport.abort()
    assert len(await bank.control.truth()) == 6000
