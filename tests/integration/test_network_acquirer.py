"""The bank world over TCP: batches, order, damaged frames, races, inquiries."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bank_messages import ACQUIRER, NOON, VISA, authorization, capture, inquiry, purchase, refund, reversal, void
from bank_process import Running, running
from guilder.core.clock import SECOND, ManualClock
from guilder.iso8583 import Code, Message, Mti, State, Tag, encode, unpack_tags

ECHO = Message(Mti.NETWORK, {7: "0102030405", 11: "000007", 70: "301"})


def reference(number: int) -> str:
    """A reference as long as DE 37."""
    return f"REF{number:09d}"


def tags(answer: Message) -> dict[str, str]:
    """The tags of an answer."""
    return unpack_tags(answer.fields.get(48, ""))


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Running]:
    """A bank world on fresh data, its clock moved by hand."""
    async with running(tmp_path, ManualClock(NOON)) as bank:
        yield bank


async def test_a_purchase_is_answered_and_stands_in_the_truth_as_two_effects(bank: Running) -> None:
    """Authorization and capture under one reference; nothing of the card in the answer."""
    peer = await bank.peer()
    answer = await peer.ask(purchase(reference(1), 1050))
    assert answer.mti == "0210"
    assert 2 not in answer.fields
    assert {number: answer.fields[number] for number in (3, 4, 7, 11, 32, 37, 39, 49)} == {
        3: "000000", 4: "000000001050", 7: "0102030405", 11: "000042", 32: ACQUIRER, 37: reference(1), 39: "00", 49: "978",
    }  # fmt: skip
    told = {"reference": reference(1), "original": None, "amount": 1050, "currency": "eur", "time": NOON}
    assert await bank.control.truth() == [told | {"kind": "authorization"}, told | {"kind": "capture"}]


async def test_every_message_has_its_answering_type(bank: Running) -> None:
    """And the answer repeats what identifies the request."""
    peer = await bank.peer()
    requests = [
        authorization(reference(1)), capture(reference(2), reference(1)), refund(reference(3), reference(2)),
        authorization(reference(4)), void(reference(5), reference(4)), purchase(reference(6)),
        reversal(reference(7), reference(6)), Message(Mti.REVERSAL_REPEAT, reversal(reference(7), reference(6)).fields),
        Message(Mti.AUTHORIZATION_ADVICE, authorization(reference(8)).fields), inquiry(reference(6)),
    ]  # fmt: skip
    answers = [await peer.ask(request) for request in requests]
    assert [answer.mti for answer in answers] == [
        "0110", "0230", "0210", "0110", "0410", "0210", "0430", "0430", "0130", "0610",
    ]  # fmt: skip
    assert {answer.fields[39] for answer in answers} == {Code.APPROVED}
    for request, answer in zip(requests, answers, strict=True):
        assert [answer.fields[number] for number in (7, 32, 37)] == [request.fields[number] for number in (7, 32, 37)]


@pytest.mark.parametrize("code", ["001", "002", "301"])
async def test_sign_on_and_echo_are_answered(bank: Running, code: str) -> None:
    """0810 with the same DE 70."""
    answer = await (await bank.peer()).ask(Message(Mti.NETWORK, {**ECHO.fields, 70: code}))
    assert (answer.mti, answer.fields) == ("0810", {**ECHO.fields, 70: code, 39: "00"})


async def test_an_unknown_network_code_is_a_format_error(bank: Running) -> None:
    """Answered, since the frame was whole."""
    assert await (await bank.peer()).code(Message(Mti.NETWORK, {**ECHO.fields, 70: "999"})) == Code.FORMAT_ERROR


async def test_many_requests_at_once_are_answered_each(bank: Running) -> None:
    """One write with 500 purchases on each of two connections; every one is in the truth."""
    peers = [await bank.peer(), await bank.peer()]
    for index, peer in enumerate(peers):
        peer.send(*(purchase(reference(1000 * index + number)) for number in range(500)))
    answers = [await peer.receive() for peer in peers for _ in range(500)]
    assert {answer.fields[39] for answer in answers} == {Code.APPROVED}
    assert len({answer.fields[37] for answer in answers}) == 1000
    assert len(await bank.control.truth()) == 2000


async def test_an_answer_given_on_one_connection_is_repeated_on_another(bank: Running) -> None:
    """The identity of an operation has nothing to do with the line that it came on."""
    first, second = await bank.peer(), await bank.peer()
    assert await first.ask(purchase(reference(1))) == await second.ask(purchase(reference(1)))
    assert len(await bank.control.truth()) == 2


@pytest.mark.parametrize("seed", range(5))
async def test_a_void_and_a_capture_at_once_end_in_one_of_them(bank: Running, seed: int) -> None:
    """From two connections; the other one hears definitely that it came too late, and asking again changes nothing."""
    voiding, capturing = await bank.peer(), await bank.peer()
    await voiding.ask(authorization(reference(1)))
    void_message, capture_message = void(reference(2), reference(1)), capture(reference(3), reference(1))
    order = [(voiding, void_message), (capturing, capture_message)]
    for peer, message in order if seed % 2 else reversed(order):
        peer.send(message)
    codes = (await voiding.receive()).fields[39], (await capturing.receive()).fields[39]
    assert codes in {(Code.APPROVED, Code.ALREADY_REVERSED), (Code.NOT_UNDONE, Code.APPROVED)}
    assert (await voiding.code(void_message), await capturing.code(capture_message)) == codes
    assert [effect["kind"] for effect in await bank.control.truth()] in (
        ["authorization", "void"], ["authorization", "capture"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00\x00",
        b"\xff\xff" + b"0" * 100,
        b"\x00\x14" + b"0200ZZZZZZZZZZZZZZZZ",
        encode("0810", {7: "0102030405", 11: "000001", 70: "001"}),
        encode("0999", {7: "0102030405"}),
        encode("0200", purchase("REF000000009").fields)[:60] + b"\xff" * 200,
    ],
)
async def test_a_damaged_frame_closes_the_connection_and_loses_nothing(bank: Running, damage: bytes) -> None:
    """What came whole before it is carried out and answered; what comes behind it is not looked at; others go on."""
    peer, other = await bank.peer(), await bank.peer()
    peer.send_raw(encode("0200", purchase(reference(1)).fields) + damage + encode("0200", purchase(reference(2)).fields))
    assert (await peer.receive()).fields[39] == Code.APPROVED
    assert await peer.ended()
    assert await other.code(inquiry(reference(1))) == Code.APPROVED
    assert await other.code(inquiry(reference(2))) == Code.NOT_FOUND


async def test_a_damaged_frame_is_logged_without_a_digit_of_it(bank: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """The outline shows where it broke; the card number and the CVC cannot be read from it."""
    frame = encode("0200", purchase(reference(1), cvc="737").fields)
    peer = await bank.peer()
    peer.send_raw(frame[:-1] + b"X")
    assert await peer.ended()
    logged = "".join(capsys.readouterr())
    assert "network.frame_unreadable" in logged
    assert VISA not in logged
    assert "424242" not in logged


async def test_a_frame_may_come_byte_by_byte(bank: Running) -> None:
    """And is one request."""
    peer = await bank.peer()
    for byte in encode("0200", purchase(reference(1)).fields):
        peer.send_raw(bytes([byte]))
        await asyncio.sleep(0)
    assert (await peer.receive()).fields[39] == Code.APPROVED


async def test_a_peer_that_hangs_up_leaves_its_payment_done(bank: Running) -> None:
    """Nobody is there for the answer; another connection can ask."""
    peer, other = await bank.peer(), await bank.peer()
    peer.send(purchase(reference(1)))
    peer.close()
    async with asyncio.timeout(10):
        while await other.code(inquiry(reference(1))) != Code.APPROVED:
            pass
    assert await bank.control.kinds(reference(1)) == ["authorization", "capture"]


@pytest.mark.parametrize(
    ("done", "asked", "code", "state", "kind"),
    [
        ([purchase(reference(1))], 1, "00", State.APPROVED, "purchase"),
        ([purchase(reference(1), number="4000000000000002")], 1, "05", State.DECLINED, "purchase"),
        ([authorization(reference(1)), void(reference(2), reference(1))], 1, "00", State.REVERSED, "authorization"),
        ([authorization(reference(1)), void(reference(2), reference(1))], 2, "00", State.APPROVED, "void"),
        ([authorization(reference(1)), capture(reference(2), reference(1))], 2, "00", State.APPROVED, "capture"),
        ([purchase(reference(1)), refund(reference(2), reference(1))], 2, "00", State.APPROVED, "refund"),
        ([purchase(reference(1)), reversal(reference(2), reference(1))], 1, "00", State.REVERSED, "purchase"),
        ([reversal(reference(2), reference(1))], 2, "00", State.APPROVED, "reversal"),
    ],
)
async def test_an_inquiry_tells_what_has_become_of_an_operation(
    bank: Running, done: list[Message], asked: int, code: str, state: str, kind: str
) -> None:
    """Found is 00; what it was answered, its state and its kind stand in the tags, its amount in the fields."""
    peer = await bank.peer()
    for message in done:
        await peer.ask(message)
    answer = await peer.ask(inquiry(reference(asked)))
    told = tags(answer)
    assert (answer.fields[39], told[Tag.ORIGINAL_CODE], told[Tag.STATE], told[Tag.KIND]) == ("00", code, state, kind)
    if kind != "reversal":
        assert (answer.fields[4], answer.fields[49]) == ("000000001050", "978")


async def test_an_inquiry_for_what_never_came_is_answered_not_found(bank: Running) -> None:
    """25; and one without a reference is a format error."""
    peer = await bank.peer()
    assert await peer.code(inquiry(reference(1))) == Code.NOT_FOUND
    assert await peer.code(Message(Mti.INQUIRY, {7: "0102030405", 11: "000001", 32: ACQUIRER})) == Code.FORMAT_ERROR


@pytest.mark.parametrize(
    ("number", "before", "after", "kinds"),
    [
        ("4000000000007726", (Code.IN_PROGRESS, State.IN_PROGRESS), State.APPROVED, ["refund"]),
        ("4000000000005126", (Code.APPROVED, State.APPROVED), State.RETURNED, ["refund", "reversal"]),
    ],
)
async def test_the_second_inquiry_finds_what_has_become_of_a_refund(
    bank: Running, number: str, before: tuple[str, str], after: str, kinds: list[str]
) -> None:
    """Pending is approved, or approved has come back; the first inquiry still finds it as it was answered."""
    peer = await bank.peer()
    await peer.ask(purchase(reference(1), number=number))
    assert await peer.code(refund(reference(2), reference(1))) == before[0]
    states = [tags(await peer.ask(inquiry(reference(2))))[Tag.STATE] for _ in range(3)]
    assert states == [before[1], after, after]
    assert await bank.control.kinds(reference(2)) == kinds


@pytest.mark.parametrize(("number", "kinds"), [("4000000000007726", 1), ("4000000000005126", 2)])
async def test_a_refund_moves_on_by_itself_after_five_seconds_of_business_time(bank: Running, number: str, kinds: int) -> None:
    """Without an inquiry: the truth shows it soon after the clock has been moved."""
    peer = await bank.peer()
    await peer.ask(purchase(reference(1), number=number))
    await peer.ask(refund(reference(2), reference(1)))
    assert isinstance(bank.clock, ManualClock)
    bank.clock.advance(5 * SECOND)
    async with asyncio.timeout(10):
        while len(await bank.control.truth(reference(2))) < kinds:
            pass


async def test_more_connections_than_anybody_needs_are_sent_away(bank: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody leaks them; those that are there go on."""
    monkeypatch.setattr("guilder.network.acquirer.CONNECTIONS_MAX", 1)
    peer = await bank.peer()
    assert await peer.silent()
    assert await (await bank.peer()).ended()
    assert await peer.silent()
