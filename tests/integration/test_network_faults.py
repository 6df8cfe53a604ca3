"""Every fault: what its victim sees, and what really happened."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bank_messages import NOON, authorization, inquiry, purchase, reversal
from bank_process import Running, running
from guilder.core.clock import ManualClock
from guilder.iso8583 import Code, FrameError, Message, Mti, State, Tag, decode, unpack_tags

DONE = ["authorization", "capture"]
ONE, TWO = "REF000000001", "REF000000002"


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Running]:
    """A bank world on fresh data."""
    async with running(tmp_path, ManualClock(NOON)) as bank:
        yield bank


async def test_a_late_answer_comes_after_those_that_were_asked_for_later(bank: Running) -> None:
    """The effect is there at once."""
    await bank.control.fault("late_answer", delay_ms=50, count=1)
    peer = await bank.peer()
    peer.send(purchase(ONE), purchase(TWO))
    assert [(await peer.receive()).fields[37] for _ in range(2)] == [TWO, ONE]
    assert await bank.control.kinds(ONE) == DONE


async def test_a_lost_answer_leaves_the_effect(bank: Running) -> None:
    """Nothing comes; an inquiry finds it approved, a repeat gets the answer."""
    await bank.control.fault("lost_answer", operation="purchase", count=1)
    peer = await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.silent()
    assert await bank.control.kinds(ONE) == DONE
    answer = await peer.ask(inquiry(ONE))
    assert unpack_tags(answer.fields[48])[Tag.STATE] == State.APPROVED
    assert await peer.code(purchase(ONE)) == Code.APPROVED
    assert await bank.control.kinds(ONE) == DONE


async def test_a_lost_request_leaves_nothing(bank: Running) -> None:
    """Nothing comes, nothing is known, and a repeat is the first that arrives."""
    await bank.control.fault("lost_request", operation="purchase", count=1)
    peer = await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.silent()
    assert await peer.code(inquiry(ONE)) == Code.NOT_FOUND
    assert await peer.code(purchase(ONE)) == Code.APPROVED
    assert await bank.control.kinds(ONE) == DONE


async def test_a_late_request_arrives_after_its_reversal_and_is_declined(bank: Running) -> None:
    """The classic: the sender gave up and reversed before the network delivered."""
    await bank.control.fault("late_request", operation="purchase", delay_ms=50)
    peer = await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.code(reversal(TWO, ONE)) == Code.APPROVED
    late = await peer.receive()
    assert (late.fields[37], late.fields[39]) == (ONE, Code.ALREADY_REVERSED)
    assert await bank.control.truth() == []


async def test_a_request_may_arrive_after_an_inquiry_has_not_found_it(bank: Running) -> None:
    """Not found is no proof of absence: the answer 25 leaves first, then the original is carried out and answered."""
    await bank.control.fault("after_not_found", operation="purchase")
    peer = await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.silent()
    assert await peer.code(inquiry(ONE)) == Code.NOT_FOUND
    late = await peer.receive()
    assert (late.mti, late.fields[37], late.fields[39]) == ("0210", ONE, Code.APPROVED)
    assert await bank.control.kinds(ONE) == DONE
    assert await peer.code(inquiry(ONE)) == Code.APPROVED


async def test_a_request_that_arrives_after_a_reversal_has_missed_it_is_declined(bank: Running) -> None:
    """The reversal is remembered, so the truth stays empty."""
    await bank.control.fault("after_not_found", operation="authorize")
    peer = await bank.peer()
    peer.send(authorization(ONE))
    assert await peer.code(reversal(TWO, ONE)) == Code.APPROVED
    late = await peer.receive()
    assert (late.fields[37], late.fields[39]) == (ONE, Code.ALREADY_REVERSED)
    assert await bank.control.truth() == []


async def test_an_inquiry_may_say_not_found_although_it_is_there(bank: Running) -> None:
    """A query that lags behind; only inquiries are hit."""
    await bank.control.fault("not_found", count=1)
    peer = await bank.peer()
    assert await peer.code(purchase(ONE)) == Code.APPROVED
    assert [await peer.code(inquiry(ONE)), await peer.code(inquiry(ONE))] == [Code.NOT_FOUND, Code.APPROVED]


@pytest.mark.parametrize("kind", ["duplicate_request", "duplicate_answer"])
async def test_whatever_is_doubled_has_one_effect_and_two_equal_answers(bank: Running, kind: str) -> None:
    """The network may deliver a request twice, or its answer."""
    await bank.control.fault(kind, operation="purchase")
    peer = await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.receive() == await peer.receive()
    assert await bank.control.kinds(ONE) == DONE


async def test_a_malformed_answer_is_no_message(bank: Running) -> None:
    """A frame of the right length with nothing readable in it; the effect is there."""
    await bank.control.fault("malformed", operation="purchase")
    peer = await bank.peer()
    peer.send(purchase(ONE))
    with pytest.raises(FrameError):
        decode(await peer.receive_body())
    assert await bank.control.kinds(ONE) == DONE


async def test_a_slow_answer_holds_up_those_behind_it(bank: Running) -> None:
    """Byte by byte; what is asked on the same line meanwhile comes after it, whole."""
    await bank.control.fault("slow", delay_ms=1, count=1)
    peer, other = await bank.peer(), await bank.peer()
    peer.send(purchase(ONE))
    assert await other.silent()
    peer.send(purchase(TWO))
    assert [(await peer.receive()).fields[37] for _ in range(2)] == [ONE, TWO]


@pytest.mark.parametrize(
    ("kind", "number", "value"),
    [("wrong_amount", 4, "000000001051"), ("wrong_currency", 49, "756"), ("wrong_reference", 37, "0EF000000001")],
)
async def test_a_wrong_answer_differs_from_what_was_done(bank: Running, kind: str, number: int, value: str) -> None:
    """In one field; the truth is what was asked for."""
    await bank.control.fault(kind, operation="purchase")
    answer = await (await bank.peer()).ask(purchase(ONE, 1050))
    assert (answer.fields[39], answer.fields[number]) == (Code.APPROVED, value)
    assert [(effect["amount"], effect["currency"]) for effect in await bank.control.truth(ONE)] == [(1050, "eur")] * 2


@pytest.mark.parametrize(
    ("rule", "code", "kinds"),
    [({}, "96", []), ({"code": "91"}, "91", []), ({"effect": True}, "96", DONE)],
)
async def test_a_system_error_says_nothing_about_the_effect(
    bank: Running, rule: dict[str, object], code: str, kinds: list[str]
) -> None:
    """It may be there or not; without one the same message is carried out when it comes again."""
    await bank.control.fault("error", operation="purchase", count=1, **rule)
    peer = await bank.peer()
    assert await peer.code(purchase(ONE)) == code
    assert await bank.control.kinds(ONE) == kinds
    assert await peer.code(purchase(ONE)) == Code.APPROVED
    assert await bank.control.kinds(ONE) == DONE


@pytest.mark.parametrize(("rule", "kinds"), [({}, DONE), ({"effect": False}, [])])
async def test_a_closed_connection_says_nothing_about_the_effect(
    bank: Running, rule: dict[str, object], kinds: list[str]
) -> None:
    """Other connections are not touched."""
    await bank.control.fault("close", operation="purchase", **rule)
    peer, other = await bank.peer(), await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.ended()
    assert await other.silent()
    assert await bank.control.kinds(ONE) == kinds


async def test_a_request_that_waits_for_its_miss_is_answered_when_it_comes_again_first(bank: Running) -> None:
    """The repeat is carried out; what arrives later is a duplicate of it."""
    await bank.control.fault("after_not_found", operation="purchase", count=1)
    peer = await bank.peer()
    peer.send(purchase(ONE))
    assert await peer.code(purchase(ONE)) == Code.APPROVED
    assert await peer.code(inquiry(ONE)) == Code.APPROVED
    assert (await peer.receive()).fields[39] == Code.APPROVED
    assert await bank.control.kinds(ONE) == DONE


async def test_rules_are_listed_with_their_hits_and_switched_off(bank: Running) -> None:
    """One by its id, then all."""
    first = await bank.control.fault("lost_answer", operation="purchase", seed=7, probability=0.5)
    await bank.control.fault("slow", operation="void")
    _, listed = await bank.control.ask("GET", "/faults")
    assert [(standing["id"], standing["hits"], standing["rule"]["kind"]) for standing in listed["faults"]] == [
        (first, 0, "lost_answer"), ("fault_2", 0, "slow"),
    ]  # fmt: skip
    assert await bank.control.ask("DELETE", f"/faults?id={first}") == (200, {"removed": 1})
    assert (await bank.control.ask("DELETE", f"/faults?id={first}"))[0] == 404
    assert await bank.control.ask("DELETE", "/faults") == (200, {"removed": 1})
    assert await bank.control.ask("GET", "/faults") == (200, {"faults": []})


async def test_under_a_mix_of_faults_every_payment_has_one_effect_or_none(bank: Running) -> None:
    """200 purchases, a third of them hit; whoever keeps repeating ends with one effect each."""
    for seed, kind in enumerate(("lost_answer", "lost_request", "duplicate_request", "duplicate_answer", "late_answer", "error")):
        await bank.control.fault(kind, operation="purchase", probability=0.07, seed=seed, delay_ms=5)
    references = [f"MIX{index:09d}" for index in range(200)]
    peer = await bank.peer()
    answered: set[str] = set()
    async with asyncio.timeout(60):
        while missing := [reference for reference in references if reference not in answered]:
            echo = Message(Mti.NETWORK, {7: "0102030405", 11: "000001", 70: "301"})
            peer.send(*(purchase(reference) for reference in missing), echo)
            while (answer := await peer.receive()).mti != "0810":
                if answer.fields[39] == Code.APPROVED:
                    answered.add(answer.fields[37])
    assert sorted(effect["reference"] for effect in await bank.control.truth()) == sorted(references * 2)
