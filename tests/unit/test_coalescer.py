"""The coalescer without a database: who shares a flush, who waits, and who gets which error."""

import asyncio
from collections.abc import Sequence

import pytest

from guilder.core.ensure import InvariantBroken
from guilder.core.errors import ResultUnknown, Unavailable
from guilder.db.batch import Coalescer
from guilder.db.errors import Again


class Store:
    """A flush that records its batches, can be held, and fails as told."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.errors: list[Exception] = []
        self.poison: dict[str, Exception] = {}

    async def flush(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.begun.set()
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        for item in items:
            if item in self.poison:
                raise self.poison[item]
        return [item.upper() for item in items]


def by_letter(item: str) -> list[str]:
    """Items with the same first letter share a key."""
    return [item[0]]


def joined(store: Store, limit: int = 100, width: int = 1) -> Coalescer[str, str]:
    return Coalescer(store.flush, limit=limit, keys=by_letter, width=width)


async def submit_all(coalescer: Coalescer[str, str], items: Sequence[str]) -> list[str | BaseException]:
    return await asyncio.gather(*(coalescer.submit(item) for item in items), return_exceptions=True)


async def test_callers_of_one_moment_share_a_flush() -> None:
    """Three concurrent items with different keys are one call."""
    store = Store()
    assert await submit_all(joined(store), ["a", "b", "c"]) == ["A", "B", "C"]
    assert store.batches == [["a", "b", "c"]]


async def test_while_one_flush_runs_the_next_one_fills() -> None:
    """What arrives during a flush goes together in the following one."""
    store = Store()
    store.open.clear()
    coalescer = joined(store)
    first = asyncio.create_task(coalescer.submit("a"))
    await store.begun.wait()
    rest = asyncio.create_task(submit_all(coalescer, ["b", "c", "d"]))
    await asyncio.sleep(0)
    store.open.set()
    await first
    await rest
    assert store.batches == [["a"], ["b", "c", "d"]]


@pytest.mark.parametrize("width", [1, 2])
async def test_a_caller_that_comes_again_at_once_is_served(width: int) -> None:
    """In the very step in which its last answer arrived, while that flush is still being put away."""
    store = Store()
    coalescer = joined(store, width=width)
    async with asyncio.timeout(5):
        assert [await coalescer.submit("a") for _ in range(5)] == ["A"] * 5
    again = asyncio.get_running_loop().create_future()
    coalescer.enqueue("b").add_done_callback(lambda _: again.set_result(coalescer.enqueue("b")))
    async with asyncio.timeout(5):
        assert await (await again) == "B"


async def test_a_flush_is_never_larger_than_the_limit() -> None:
    """Five items with a limit of two make three flushes."""
    store = Store()
    await submit_all(joined(store, limit=2), list("abcde"))
    assert store.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_weight_counts_in_place_of_items_and_one_item_always_fits() -> None:
    """A heavy item goes alone, light ones share."""
    store = Store()
    coalescer = Coalescer(store.flush, limit=4, keys=by_letter, weigh=len)
    await submit_all(coalescer, ["aaaaaaaa", "bb", "cc", "d"])
    assert store.batches == [["aaaaaaaa"], ["bb", "cc"], ["d"]]


async def test_two_items_of_one_key_never_share_a_flush_and_keep_their_order() -> None:
    """The second and third of a key wait their turn; others pass them."""
    store = Store()
    await submit_all(joined(store), ["a1", "a2", "b1", "a3", "c1"])
    assert store.batches == [["a1", "b1", "c1"], ["a2"], ["a3"]]


async def test_an_item_with_two_keys_waits_for_both() -> None:
    """Nothing that came later overtakes it on either key."""
    store = Store()
    coalescer = Coalescer(store.flush, limit=100, keys=list)
    await submit_all(coalescer, ["a", "b", "ab", "a", "b"])
    assert store.batches == [["a", "b"], ["ab"], ["a", "b"]]


async def test_two_flushes_in_flight_never_hold_one_key() -> None:
    """With a width of two the same key still goes one after the other."""
    store = Store()
    store.open.clear()
    coalescer = joined(store, limit=1, width=2)
    all_items = asyncio.create_task(submit_all(coalescer, ["a1", "a2", "b1"]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert store.batches == [["a1"], ["b1"]]
    store.open.set()
    assert await all_items == ["A1", "A2", "B1"]
    assert store.batches[2] == ["a2"]


async def test_a_caller_that_goes_away_does_not_cancel_the_flush() -> None:
    """Its neighbours are answered and its own item is stored."""
    store = Store()
    store.open.clear()
    coalescer = joined(store)
    leaving = asyncio.create_task(coalescer.submit("a"))
    staying = asyncio.create_task(coalescer.submit("b"))
    await store.begun.wait()
    leaving.cancel()
    await asyncio.wait({leaving})
    store.open.set()
    assert await staying == "B"
    assert leaving.cancelled()
    assert store.batches == [["a", "b"]]


async def test_one_bad_item_among_many_fails_alone() -> None:
    """Halves are tried until it stands by itself; everybody else is stored."""
    store = Store()
    store.poison["m"] = ValueError("bad m")
    letters = [chr(97 + i) for i in range(26)]
    results = dict(zip(letters, await submit_all(joined(store), letters), strict=True))
    assert isinstance(results["m"], ValueError)
    assert [result for letter, result in results.items() if letter != "m"] == [x.upper() for x in letters if x != "m"]
    assert len(store.batches) < 15


async def test_a_conflict_runs_the_whole_flush_again() -> None:
    """40001 and 40P01 are nobody's fault and nobody's error."""
    store = Store()
    store.errors = [Again("deadlock"), Again("deadlock")]
    assert await submit_all(joined(store), ["a", "b"]) == ["A", "B"]
    assert store.batches == [["a", "b"]] * 3


async def test_conflicts_without_end_become_unavailable() -> None:
    """The retries are bounded, and nothing was stored."""
    store = Store()
    store.errors = [Again("deadlock")] * 100
    assert [type(result) for result in await submit_all(joined(store), ["a", "b"])] == [Unavailable, Unavailable]


async def test_unavailable_goes_to_every_caller_without_halving() -> None:
    """A database that is away is asked once."""
    store = Store()
    store.errors = [Unavailable("away")]
    assert [type(result) for result in await submit_all(joined(store), ["a", "b"])] == [Unavailable, Unavailable]
    assert len(store.batches) == 1


async def test_a_lost_answer_is_unknown_to_every_caller() -> None:
    """Without a way to find out nobody guesses, and the flush is not repeated."""
    store = Store()
    store.errors = [ResultUnknown("lost")]
    assert [type(result) for result in await submit_all(joined(store), ["a", "b"])] == [ResultUnknown, ResultUnknown]
    assert len(store.batches) == 1


async def test_a_lost_answer_is_found_out_by_reading_again() -> None:
    """`resolve` is asked for all items at once, again while the database is away, and may say that one is not there."""
    store = Store()
    store.errors = [ResultUnknown("lost")]
    asked: list[list[str]] = []

    async def resolve(items: Sequence[str]) -> list[str]:
        asked.append(list(items))
        if len(asked) == 1:
            raise Unavailable("still starting")
        return ["found " + item if item == "a" else Unavailable("was not stored") for item in items]  # type: ignore[misc]

    coalescer = Coalescer(store.flush, limit=10, keys=by_letter, resolve=resolve)
    first, second = await submit_all(coalescer, ["a", "b"])
    assert first == "found a"
    assert isinstance(second, Unavailable)
    assert asked == [["a", "b"], ["a", "b"]]


async def test_a_resolve_that_fails_leaves_the_result_unknown() -> None:
    """A defect in re-reading never becomes an answer."""
    store = Store()
    store.errors = [ResultUnknown("lost")]

    async def resolve(_items: Sequence[str]) -> list[str]:
        raise KeyError("defect")

    coalescer = Coalescer(store.flush, limit=10, keys=by_letter, resolve=resolve)
    [result] = await submit_all(coalescer, ["a"])
    assert isinstance(result, ResultUnknown)
    assert isinstance(result.__cause__, KeyError)


async def test_a_flush_with_the_wrong_number_of_results_is_never_repeated() -> None:
    """It has committed, so halving it would apply it twice."""
    calls = 0

    async def flush(_items: Sequence[str]) -> list[str]:
        nonlocal calls
        calls += 1
        return []

    coalescer = Coalescer(flush, limit=10, keys=by_letter)
    results = await submit_all(coalescer, ["a", "b"])
    assert all(isinstance(result, InvariantBroken) for result in results)
    assert calls == 1


async def test_a_key_goes_on_after_its_item_failed() -> None:
    """The next item of the key is not lost with it."""
    store = Store()
    store.poison["a1"] = ValueError("bad")
    first, second = await submit_all(joined(store), ["a1", "a2"])
    assert isinstance(first, ValueError)
    assert second == "A2"


async def test_close_answers_what_was_submitted_and_refuses_what_comes_later() -> None:
    """Draining loses nobody, those that wait for a key included."""
    store = Store()
    coalescer = joined(store)
    waiting = [coalescer.enqueue(item) for item in ("a1", "a2", "a3")]
    await coalescer.close()
    assert [future.result() for future in waiting] == ["A1", "A2", "A3"]
    with pytest.raises(Unavailable):
        await coalescer.submit("b")


async def test_the_end_of_the_loop_leaves_no_caller_without_an_answer() -> None:
    """A cancelled flush is unknown to those who wait for it; what was not yet in a flush was certainly not stored."""
    store = Store()
    store.open.clear()
    coalescer = joined(store)
    future, waiting = coalescer.enqueue("a"), coalescer.enqueue("a2")
    await store.begun.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(ResultUnknown):
        await future
    with pytest.raises(Unavailable):
        await waiting


async def test_an_item_that_comes_in_the_turn_in_which_a_flush_ends_is_not_left_behind() -> None:
    """The last runner has looked and found nothing, but its task is not done yet."""
    gate = asyncio.get_running_loop().create_future()

    async def flush(items: Sequence[int]) -> Sequence[int]:
        if items == [1]:
            await gate
        return items

    coalescer: Coalescer[int, int] = Coalescer(flush, limit=10, keys=lambda _item: ())
    first = asyncio.ensure_future(coalescer.submit(1))
    await asyncio.sleep(0)

    async def same_turn() -> int:
        await gate
        return await coalescer.submit(2)

    second = asyncio.ensure_future(same_turn())
    await asyncio.sleep(0)
    gate.set_result(None)
    assert await first == 1
    assert await asyncio.wait_for(second, 5) == 2
