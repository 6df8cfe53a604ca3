"""The bank world as a process: kill -9, restart, damaged files, a full disk, an orderly end."""

import asyncio
import errno
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from bank_messages import NOON, capture, inquiry, purchase, refund, reversal, void
from bank_messages import authorization as authorize
from bank_process import BankProcess, ControlPort, Peer, running
from guilder.core.clock import DAY, ManualClock
from guilder.iso8583 import Code, Message, Mti
from guilder.network import Addresses, NetworkSettings, serve
from guilder.network.errors import TruthInUse, TruthNotDurable, TruthUnreadable
from guilder.network.truth_file import FILE_NAME, TruthFile


def can_mount() -> bool:
    """Whether this machine lets us mount a small disk in a namespace of our own."""
    command = ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


async def test_after_kill_9_everything_that_was_answered_is_true(tmp_path: Path) -> None:
    """Killed in the middle of a stream of payments: no answered one is missing, none is there twice, repeats get their answer."""
    process = BankProcess(tmp_path)
    peer = await process.peer()
    requests = [purchase(f"REF{index:09d}", 1 + index) for index in range(5000)]
    answers: dict[str, Message] = {}
    for start in range(0, len(requests), 50):
        peer.send(*requests[start : start + 50])
    while len(answers) < 1000:
        answer = await peer.receive()
        answers[answer.fields[37]] = answer
    process.kill()
    try:
        while True:
            answer = await peer.receive()
            answers[answer.fields[37]] = answer
    except ConnectionError:
        peer.close()

    process = BankProcess(tmp_path)
    truth = await process.control.truth()
    captured = [effect["reference"] for effect in truth if effect["kind"] == "capture"]
    assert set(answers) <= set(captured)
    assert len(captured) == len(set(captured)) == len(truth) // 2
    peer = await process.peer()
    for request in requests[:1000]:
        assert await peer.ask(request) == answers.get(request.fields[37], await peer.ask(request))
    assert len(await process.control.truth()) == 2 * len({*captured, *(request.fields[37] for request in requests[:1000])})
    peer.close()
    assert process.stop() == 0


async def test_a_restart_remembers_every_kind_of_operation(tmp_path: Path) -> None:
    """Holds, captures, refunds, voids, reversals, reversals before their original, balances, accounts, duplicates."""
    clock = ManualClock(NOON)
    requests = [
        authorize("REF000000001", 1000), capture("REF000000002", "REF000000001", 700),
        refund("REF000000003", "REF000000002", 200), authorize("REF000000004"), void("REF000000005", "REF000000004"),
        purchase("REF000000006"), reversal("REF000000007", "REF000000006"), reversal("REF000000008", "REF000000009"),
        purchase("REF000000010", number="4000000000000002"), authorize("REF000000011", 500),
    ]  # fmt: skip
    async with running(tmp_path, clock) as bank:
        peer = await bank.peer()
        before = [await peer.ask(request) for request in requests]
        _, opened = await bank.control.ask("POST", "/accounts", {"bin": "411111", "count": 3})
        await bank.control.ask("POST", "/accounts", {"number": "4111111111111111", "terms": {"cvc": "737"}})
        await peer.ask(purchase("REF000000012", 300, number=opened["numbers"][2]))
        accounts, truth = await bank.control.ask("GET", "/accounts"), await bank.control.truth()
        states = [await peer.ask(inquiry(request.fields[37])) for request in requests]
    async with running(tmp_path, clock) as bank:
        peer = await bank.peer()
        assert [await peer.ask(request) for request in requests] == before
        assert [await peer.ask(inquiry(request.fields[37])) for request in requests] == states
        assert await bank.control.truth() == truth
        accounts_again = await bank.control.ask("GET", "/accounts")
        by_name = [{account["name"]: account for account in document["accounts"]} for _, document in (accounts, accounts_again)]
        assert by_name[0] == by_name[1]
        assert await peer.code(purchase("REF000000009")) == Code.ALREADY_REVERSED
        assert await peer.code(refund("REF000000013", "REF000000002", 501)) == Code.INVALID_AMOUNT
        assert await peer.code(purchase("REF000000014", number="4111111111111111", cvc="123")) == Code.WRONG_CVC
        assert await peer.code(purchase("REF000000015", number="4111111111111111", cvc="737")) == Code.APPROVED
        status, more = await bank.control.ask("POST", "/accounts", {"bin": "411111", "count": 1})
        assert (status, more["numbers"][0] in opened["numbers"]) == (201, False)


async def test_no_card_number_is_written_to_disk(tmp_path: Path) -> None:
    """Neither those that paid nor those that somebody added."""
    async with running(tmp_path, ManualClock(NOON)) as bank:
        _, opened = await bank.control.ask("POST", "/accounts", {"bin": "411111", "count": 2})
        await bank.control.ask("POST", "/accounts", {"number": "4111111111111111"})
        peer = await bank.peer()
        for index, number in enumerate([*opened["numbers"], "4111111111111111", "4242424242424242", "4999999999999996"]):
            await peer.ask(purchase(f"REF{index:09d}", number=number))
    written = (tmp_path / FILE_NAME).read_text()
    for number in [*opened["numbers"], "4111111111111111", "4242424242424242", "4999999999999996"]:
        assert number not in written


async def test_a_line_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    """It was never synced whole, so nobody has heard of it."""
    async with running(tmp_path, ManualClock(NOON)) as bank:
        await (await bank.peer()).ask(purchase("REF000000001"))
    file = tmp_path / FILE_NAME
    whole = file.read_bytes()
    file.write_bytes(whole + whole[-60:-1])
    async with running(tmp_path, ManualClock(NOON)) as bank:
        assert len(await bank.control.truth()) == 2
    assert file.read_bytes() == whole


@pytest.mark.parametrize("line", [b"garbage", b'["did",1]', b"\0" * 40, b'["opened",2,"00"]'])
async def test_a_line_that_is_none_of_ours_stops_the_start(tmp_path: Path, line: bytes) -> None:
    """Nothing is guessed: a person has to look."""
    async with running(tmp_path, ManualClock(NOON)):
        pass
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(TruthUnreadable):
        async with running(tmp_path, ManualClock(NOON)):
            pass


async def test_two_processes_cannot_hold_one_truth(tmp_path: Path) -> None:
    """The second one says so and ends; the first goes on."""
    process = BankProcess(tmp_path)
    with pytest.raises(TruthInUse):
        async with running(tmp_path, ManualClock(NOON)):
            pass
    second = BankProcess(tmp_path)
    code, errors = second.end()
    assert (code, second.addresses) == (1, None)
    assert "another process holds" in errors
    assert (await process.control.ask("GET", "/health"))[0] == 200
    assert process.stop() == 0


async def test_sigterm_ends_it_with_open_connections(tmp_path: Path) -> None:
    """What was asked before is in the file."""
    process = BankProcess(tmp_path)
    peer = await process.peer()
    assert await peer.code(purchase("REF000000001")) == Code.APPROVED
    assert process.stop() == 0
    assert await peer.ended()
    peer.close()
    assert (tmp_path / FILE_NAME).read_bytes().count(b"\n") == 2


async def test_the_business_clock_follows_its_file(tmp_path: Path) -> None:
    """`clock_offset` is what this process sees; operations bear business time."""
    clock_file = tmp_path / "clock"
    process = BankProcess(tmp_path / "network", arguments=["--clock-file", str(clock_file)])
    clock_file.write_text(str(7 * DAY))
    async with asyncio.timeout(10):
        while (await process.control.ask("GET", "/health"))[1]["clock_offset"] < 7 * DAY:
            pass
    peer = await process.peer()
    await peer.ask(purchase("REF000000001"))
    peer.close()
    told = (await process.control.truth())[0]["time"]
    assert process.stop() == 0
    real = (tmp_path / "network" / FILE_NAME).stat().st_mtime_ns // 1000
    assert abs(told - 7 * DAY - real) < DAY // 24


@pytest.mark.skipif(not can_mount(), reason="this machine cannot mount a small disk in a namespace of its own")
async def test_while_the_disk_is_full_nothing_is_answered_and_nothing_is_lost(tmp_path: Path) -> None:
    """Requests wait; when there is room again they are answered, and the truth is whole."""
    data = tmp_path / "small"
    data.mkdir()
    mount = f'mount -t tmpfs -o size=256k none {data} && head -c 128k /dev/zero > {data}/ballast && exec "$@"'
    process = BankProcess(data, prefix=["unshare", "-Urm", "sh", "-c", mount, "sh"])
    peer = await process.peer()
    requests = [purchase(f"REF{index:09d}") for index in range(1700)]
    answered: set[str] = set()
    for start in range(0, len(requests), 100):
        peer.send(*requests[start : start + 100])

    async def collect() -> None:
        while len(answered) < len(requests):
            answered.add((await peer.receive()).fields[37])

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(collect(), 2)
    truth = await process.control.truth()
    told = {effect["reference"] for effect in truth}
    assert answered <= told
    assert len(told) < len(requests)
    os.truncate(f"/proc/{process.process.pid}/root{data}/ballast", 0)
    await collect()
    assert len(await process.control.truth()) == 2 * len(requests)
    peer.close()
    assert process.stop() == 0


async def test_a_disk_that_fails_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fdatasync nobody knows what the kernel kept: no answer leaves, and only the file counts from then on."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    seen = []

    async def use() -> None:
        async with running(tmp_path, ManualClock(NOON)) as bank:
            peer = await bank.peer()
            seen.append(await peer.code(purchase("REF000000001")))
            monkeypatch.setattr(os, "fdatasync", fail)
            peer.send(purchase("REF000000002"))
            seen.append(await peer.ended())

    with pytest.raises(TruthNotDurable):
        await use()
    assert seen == [Code.APPROVED, True]


def test_a_write_that_fails_for_good_is_not_durable(tmp_path: Path) -> None:
    """Only a full disk is waited for."""
    truth = TruthFile.open(tmp_path)
    list(truth.recover())
    truth.append(b"{}")
    truth.close()
    with pytest.raises(TruthNotDurable):
        truth.sync()


async def test_the_module_runs_with_its_flags(tmp_path: Path) -> None:
    """Ports that were asked for are the ports of the ready line; a port that is taken is an error in words."""
    process = BankProcess(tmp_path / "one")
    taken = str(process.addresses["iso_port"])
    second = BankProcess(tmp_path / "two", arguments=["--iso-port", taken])
    code, errors = second.end()
    assert (code, "address already in use" in errors.lower()) == (1, True)
    assert process.stop() == 0
    third = BankProcess(tmp_path / "one", arguments=["--iso-port", taken])
    assert str(third.addresses["iso_port"]) == taken
    assert json.loads((await asyncio.to_thread(ControlPort(third.addresses["http_port"]).call, "GET", "/health"))[1])
    assert third.stop() == 0


async def test_what_is_asked_while_the_bank_is_down_is_answered_after_its_restart(tmp_path: Path) -> None:
    """The peer resends; before the restart the request had never arrived."""
    process = BankProcess(tmp_path)
    process.kill()
    with pytest.raises(OSError, match="Connect call failed"):
        await process.peer()
    process = BankProcess(tmp_path)
    peer = await process.peer()
    assert await peer.code(purchase("REF000000001")) == Code.APPROVED
    assert await peer.code(Message(Mti.NETWORK, {7: "0102030405", 11: "000001", 70: "001"})) == Code.APPROVED
    peer.close()
    assert process.stop() == 0


async def test_listening_sockets_that_are_handed_in_are_used(tmp_path: Path) -> None:
    """A supervisor binds them, so that the ports stay the same over a restart."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    settings = NetworkSettings(data=tmp_path, iso_listener=listeners[0], http_listener=listeners[1])
    serving = asyncio.create_task(serve(settings, ready=ready.set_result))
    addresses = await ready
    assert [addresses.iso_port, addresses.http_port] == [listener.getsockname()[1] for listener in listeners]
    peer = await Peer.connect(addresses.iso_port)
    assert await peer.code(purchase("REF000000001")) == Code.APPROVED
    peer.close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
