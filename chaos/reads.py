"""What lists that may come from a replica promise: nothing older than they say, nothing that is not so in the end. Pure functions.

What the primary shows while a wait for the standby is canceled may be lost with it (docs/critiques.md), so a list without an age is
held to the first promise only. What a replica shows is on a standby's disk, and is there after every failover to it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from chaos.history import Line
from chaos.records import Records

Finding = Iterator[str]

ENDED: Final = frozenset({"succeeded", "canceled"})
# Older lists are the primary's to give.
AGE_SECONDS_MAX: Final = 60.0
# The header tells thousandths of a second, rounded.
PRECISION_SECONDS: Final = 0.001


class Told(Struct):
    """When a merchant was told of a payment for the first time, and of its end (0, and no state, while he was not)."""

    at: int
    ended: int = 0
    state: str = ""


def replica(r: Records) -> Finding:
    """Lists are as new as they say, what a replica tells of is there in the end, and nothing but lists comes from one."""
    acknowledged = _acknowledged(r.lines)
    for asked, line in _lists(r.lines):
        yield from _as_new_as_told(asked, line, acknowledged[line.merchant])
        if line.age is None:
            continue
        if line.age > AGE_SECONDS_MAX + PRECISION_SECONDS:
            yield f"a list was {line.age} s old, which is the primary's to give"
        for id_, state in line.listed or ():
            if id_ not in r.shown:
                yield f"a list of {line.age} s from a replica told of {id_}, which does not exist"
            elif state in ENDED and r.shown[id_]["status"] != state:
                yield f"a list of {line.age} s from a replica told that {id_} was {state}, and it is {r.shown[id_]['status']}"
    for line in r.lines:
        if line.age is not None and line.op != "list":
            yield f"{line.method} {line.path} was answered from a replica"


def _acknowledged(lines: Sequence[Line]) -> dict[int, dict[str, Told]]:
    """By merchant. Only answers under a key are promises: a reader may have seen what was lost before anybody was told."""
    found: dict[int, dict[str, Told]] = defaultdict(dict)
    for line in lines:
        if line.phase != "ok" or not line.key or not line.object.startswith("pi_"):
            continue
        told = found[line.merchant].setdefault(line.object, Told(line.at))
        if line.state in ENDED and not told.state:
            told.ended, told.state = line.at, line.state
    return found


def _lists(lines: Sequence[Line]) -> Iterator[tuple[int, Line]]:
    """Each list that was answered, with the moment at which it was asked for; a client asks for one after the other."""
    asked: dict[tuple[int, int, str], int] = {}
    for line in lines:
        if line.op != "list":
            continue
        if line.phase == "invoke":
            asked[line.client, line.merchant, line.path] = line.at
        elif line.phase == "ok" and line.listed is not None:
            yield asked[line.client, line.merchant, line.path], line


def _as_new_as_told(asked: int, line: Line, acknowledged: dict[str, Told]) -> Finding:
    """The newest page holds whatever its merchant was told of before the moment to which it goes back, and every end of that time."""
    since = asked - int(((line.age or 0.0) + PRECISION_SECONDS) * 1e9)
    shown = dict(line.listed or ())
    oldest = min(shown) if line.more else ""
    says = "is of now" if line.age is None else f"says that it is {line.age} s old"
    for id_, told in acknowledged.items():
        if told.at < since and id_ > oldest and id_ not in shown:
            yield f"a list {says}, and lacks {id_}, acknowledged {(asked - told.at) / 1e9:.3f} s before it was asked for"
        elif told.state and told.ended < since and shown.get(id_, told.state) != told.state:
            yield f"a list {says}, and shows {id_} as {shown[id_]}, which had been {told.state} for {(asked - told.ended) / 1e9:.3f} s"


def unknown_claims(sent: Sequence[str], attempts: Sequence[Any]) -> Finding:
    """What has left (the references of first requests) the promoted standby knows as claimed, before anybody is let in to it.

    `attempts`: its reference, and whether it stands as one that certainly nobody has sent.
    """
    known = {attempt["reference"]: attempt["unsent"] for attempt in attempts}
    for reference in sorted(set(sent)):
        if reference not in known:
            yield f"{reference} had left, and the promoted standby has never heard of it"
        elif known[reference]:
            yield f"{reference} had left, and the promoted standby has no claim of it"
