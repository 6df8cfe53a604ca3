"""What holds when a backup takes the database's place, and what is lost with it. Pure functions.

Whatever was committed when the backup was begun is in it, and is judged as if nothing had happened. What was done between then and the
restore may be lost: it is counted, not judged. In quarantine nothing is taken and nothing sent; from the lift on everything holds again,
but that the bank keeps effects whose intents are gone, and a repeated key of which the books have never heard is another payment.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from chaos.history import Line
from chaos.records import Books, Effects

Finding = Iterator[str]

KEPT: Final = ("attempts", "payments", "refunds", "transfers", "events")
REFUSED: Final = 503
READ: Final = frozenset({200, 404})
# Sign-on and echo: of a connection, not of a payment.
NETWORK: Final = "08"


class Restore(Struct, frozen=True, kw_only=True):
    """A backup that took the database's place.

    Args:
        began, at: when the backup was begun, and when it took the place: nanoseconds of CLOCK_MONOTONIC.
        lost: the attempts that stood in the books until then, and do not since.
    """

    began: int
    at: int
    lost: Sequence[Any]

    @property
    def references(self) -> frozenset[str]:
        """What the lost attempts are called at the bank."""
        return frozenset(attempt["reference"] for attempt in self.lost)

    def promised(self, lines: Sequence[Line]) -> list[Line]:
        """Without the answers of the time that may be lost. Who was told nothing, or 503, is still to be told the truth.

        A buyer has no keys: an order at the page, or a card at a reader, that anybody was busy with in that time, is left out as a whole.
        Who had an answer then, repeats, and leaves at a 503, has not been told 503 only; and his key, if it is lost, is a new one for
        whatever else it is used for.
        """
        touched = {_order(line) for line in lines if self._in_between(line)} - {None}
        answered = {(line.merchant, line.key) for line in lines if self._may_be_lost(line)}
        return [
            line for line in lines if _order(line) not in touched and not self._may_be_lost(line)
            and not ((line.phase == "left" or line.op == "misuse") and (line.merchant, line.key) in answered)
        ]  # fmt: skip

    def _in_between(self, line: Line) -> bool:
        return self.began < line.at < self.at

    def _may_be_lost(self, line: Line) -> bool:
        return line.phase == "ok" and self._in_between(line)

    def effects(self, truth: Effects, attempts: Sequence[Any]) -> Effects:
        """Without what the lost attempts did, and what was done to it.

        `attempts` are those of the books. One that was open in the backup, and whose hold a lost void gave back, ends as not approved:
        then the hold is gone, too.
        """
        lost = self.references
        voided = {effect.get("original") for effect in truth.all if effect["kind"] == "void" and effect["reference"] in lost}
        gone = lost | {one["reference"] for one in attempts if one["reference"] in voided and one["state"] != "approved"}
        return Effects([effect for effect in truth.all if effect["reference"] not in gone and effect.get("original") not in gone])


def _order(line: Line) -> tuple[int, str] | None:
    """Which order at the page, or card at a reader, a line is about; None for what has keys of its own."""
    if line.op == "present":
        return line.merchant, line.key
    return (line.merchant, line.object) if line.object.startswith("cs_") else None


def lost_attempts(before: Books, after: Books) -> list[Any]:
    """What the restore took with it."""
    kept = {row["id"] for row in after.attempts}
    return [row for row in before.attempts if row["id"] not in kept]


def incomplete(early: Books, after: Books) -> Finding:
    """Whatever stood in the books when the backup was begun is in it."""
    for name in KEPT:
        kept = {row["id"] for row in getattr(after, name)}
        missing = [row["id"] for row in getattr(early, name) if row["id"] not in kept]
        if missing:
            yield f"the backup lacks {len(missing)} {name} that were there when it was begun, {missing[0]} among them"


def quarantine_kept(lines: Sequence[Line], began: int, ended: int) -> Finding:
    """Of what was asked and answered in this time, reads were answered, and everything else was told that nothing is stored."""
    asked: dict[tuple[int, str, str, str], int] = {}
    for line in lines:
        place = (line.client, line.key, line.method, line.path)
        if line.phase == "invoke":
            asked[place] = line.at
        elif line.phase == "left" or not began < asked.get(place, 0) or line.at > ended:
            continue
        elif line.method == "GET" and line.status not in READ:
            yield f"in quarantine GET {line.path} was answered {line.status} {line.error}"
        elif line.method != "GET" and line.status != REFUSED:
            yield f"in quarantine {line.method} {line.path} under {line.key} was answered {line.status} {line.error}"


def sent_meanwhile(before: Mapping[str, int], after: Mapping[str, int]) -> Finding:
    """In quarantine no byte of a payment goes to a PSP, questions included: by what passed the wires, by type."""
    for kind, count in (Counter(after) - Counter(before)).items():
        if not kind.startswith(NETWORK):
            yield f"in quarantine {count} requests {kind} were sent"


def strangers(truth: Sequence[Mapping[str, Any]], known: Sequence[Any]) -> frozenset[str]:
    """References under which the bank did something, or undid it, and of which these attempts are none: `guilder check` names each."""
    named = {effect["reference"] for effect in truth if effect["kind"] != "reversal"}
    named |= {effect["original"] for effect in truth if effect["kind"] in ("void", "reversal")}
    return frozenset(named - {None} - {attempt["reference"] for attempt in known})


def not_this_check(checks: Sequence[Mapping[str, Any]], strangers_known: int) -> Finding:
    """What `guilder check` finds beyond the effects without an intent that are known to be there."""
    for one in checks:
        expected = strangers_known if one["name"] == "truth" else 0
        if one["violated"] != expected:
            first = one["violations"][0]["message"] if one["violations"] else "nothing"
            yield f"{one['name']} finds {one['violated']} where {expected} are known: {first}"
