"""/v1/dead_letters: entries of this merchant's log that could not be handled, and what is to become of them.

To order a replay or a discard twice is to order it once: an entry that is not open any more stays as it is.
"""

from typing import Any, Final, Literal

from msgspec import UNSET, UnsetType

from guilder.api.call import Call, page_of
from guilder.api.http import Reply
from guilder.api.params import Id, ListParams, Params, Text
from guilder.api.registry import Route
from guilder.core.clock import epoch_seconds
from guilder.core.errors import missing
from guilder.log.dead_letters import Action, DeadLetter, Done, Selection, act, dead_letters, page_of_letters, payload_of

KIND: Final = "dead_letter"
RESULT: Final = "dead_letter_result"


class Listed(ListParams, frozen=True, kw_only=True):
    """Which dead letters."""

    consumer: Text | UnsetType = UNSET
    key: Id | UnsetType = UNSET
    state: Literal["open", "replayed", "discarded"] | UnsetType = UNSET


class Replay(Params, frozen=True, kw_only=True):
    """One replay. `payload` is the entry's new content as JSON text, as `content` shows it."""

    payload: Text | UnsetType = UNSET
    dry_run: bool = False


class Discard(Params, frozen=True, kw_only=True):
    """One discard."""

    dry_run: bool = False


class Bulk(Params, frozen=True, kw_only=True):
    """All open letters that fit; `reason` is a part of theirs."""

    consumer: Text | UnsetType = UNSET
    key: Id | UnsetType = UNSET
    reason: Text | UnsetType = UNSET
    dry_run: bool = False


async def list_all(call: Call, p: Listed) -> Reply:
    """Dead letters, newest first."""
    found, more = await page_of_letters(
        call.services.db, call.account, page_of(p), livemode=call.livemode, consumer=p.consumer or None, key=p.key or None,
        state=p.state or None,
    )  # fmt: skip
    return call.plain_list([letter_json(one) for one in found], more=more)


async def retrieve(call: Call, _p: Params) -> Reply:
    """One dead letter, with the tries that failed and where."""
    letter = await _letter(call)
    return call.plain(letter_json(letter, whole=True))


async def replay(call: Call, p: Replay) -> Reply:
    """Let the consumer try the entry again, with other content where that is given."""
    letter = await _letter(call)
    payload = None if p.payload is UNSET else await payload_of(call.services.db, letter, p.payload)
    [done] = await act(call.services.db, call.services.clock, Action.REPLAY, [letter], dry_run=p.dry_run, payload=payload)
    return call.plain(result_json(done))


async def discard(call: Call, p: Discard) -> Reply:
    """Give the entry up."""
    [done] = await act(call.services.db, call.services.clock, Action.DISCARD, [await _letter(call)], dry_run=p.dry_run)
    return call.plain(result_json(done))


async def replay_many(call: Call, p: Bulk) -> Reply:
    """Let consumers try entries again."""
    return await _many(call, p, Action.REPLAY)


async def discard_many(call: Call, p: Bulk) -> Reply:
    """Give entries up."""
    return await _many(call, p, Action.DISCARD)


async def _many(call: Call, p: Bulk, action: Action) -> Reply:
    wanted = Selection(
        consumer=p.consumer or None, key=p.key or None, reason=p.reason or None, account=call.account, livemode=call.livemode,
    )  # fmt: skip
    letters = await dead_letters(call.services.db, wanted)
    done = await act(call.services.db, call.services.clock, action, letters, dry_run=p.dry_run)
    return call.plain_list([result_json(one) for one in done], more=False)


async def _letter(call: Call) -> DeadLetter:
    """The letter that the path names. Raises Refusal (404)."""
    wanted = Selection(ids=(call.ids[0],), closed=True, account=call.account, livemode=call.livemode)
    found = await dead_letters(call.services.db, wanted, limit=1)
    if not found:
        raise missing("dead letter", call.ids[0])
    return found[0]


def letter_json(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """A dead letter as the API shows it; whole with its history and the stack."""
    shown: dict[str, Any] = {
        "id": letter.id,
        "object": KIND,
        "behind": letter.behind,
        "closed_at": None if letter.closed_at is None else epoch_seconds(letter.closed_at),
        "consumer": letter.consumer,
        "content": letter.content,
        "created": epoch_seconds(letter.created_at),
        "edited": letter.edited,
        "key": letter.key,
        "livemode": bool(letter.livemode),
        "partition": letter.partition,
        "position": letter.position,
        "reason": letter.reason,
        "state": letter.state,
        "topic": letter.topic,
        "tries": letter.tries,
    }
    if whole:
        shown["history"] = [{"at": epoch_seconds(one.at), "reason": one.reason, "try": one.tries} for one in letter.history]
        shown["stack"] = letter.trace
    return shown


def result_json(done: Done) -> dict[str, Any]:
    """What an action did to a letter, or would do."""
    return {"id": done.id, "object": RESULT, "done": done.done, "text": done.text}


_ALL: Final = "/v1/dead_letters"
_ONE: Final = "/v1/dead_letters/{dead_letter}"

ROUTES: Final = (
    Route(method="GET", path=_ALL, params=Listed, handle=list_all, answers=KIND, of_list=True, summary="List dead letters"),
    Route(method="GET", path=_ONE, params=Params, handle=retrieve, answers=KIND, summary="Retrieve a dead letter"),
    Route(method="POST", path=f"{_ONE}/replay", params=Replay, handle=replay, answers=RESULT, claims_key=False,
          summary="Replay a dead letter"),
    Route(method="POST", path=f"{_ONE}/discard", params=Discard, handle=discard, answers=RESULT, claims_key=False,
          summary="Discard a dead letter"),
    Route(method="POST", path=f"{_ALL}/bulk_replay", params=Bulk, handle=replay_many, answers=RESULT, of_list=True, claims_key=False,
          summary="Replay dead letters"),
    Route(method="POST", path=f"{_ALL}/bulk_discard", params=Bulk, handle=discard_many, answers=RESULT, of_list=True, claims_key=False,
          summary="Discard dead letters"),
)  # fmt: skip
