"""Attempts: nothing is forgotten. What is open is being worked on, and what is late is late for a reason that is shown."""

import time
from collections.abc import Sequence
from typing import Final

from guilder.core.clock import DAY, HOUR, MINUTE, SECOND, sleep
from guilder.db import Record
from guilder.integrity.model import Examination

# What an attempt may be late: its executor looks for such each quarter of a second, and a takeover costs some seconds.
LATE_MAX: Final = 60 * SECOND
# How long we look again at what is late: the clock may have been moved a moment ago, and an executor needs its next round.
LOOK_AGAIN_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.25

_OPEN_WITHOUT_ROW: Final = """
SELECT a.id FROM attempt a WHERE a.state IS NULL AND NOT EXISTS (
    SELECT FROM attempt_open o WHERE (o.payment, o.slot, o.attempt) = (a.payment, a.slot, a.id))
"""
_OPEN: Final = """
SELECT o.attempt, o.payment, o.slot, o.state, o.tries, o.since_at,
       a.id, a.slot AS own_slot, a.state AS ended, a.operation, a.execute_by
FROM attempt_open o LEFT JOIN attempt a ON a.id = o.attempt ORDER BY o.since_at, o.attempt
"""
_LATE: Final = """
SELECT o.attempt FROM attempt_open o JOIN attempt a ON a.id = o.attempt
WHERE o.attempt = ANY ($1) AND o.state = 'created' AND a.execute_by < $2
"""


async def attempts(x: Examination) -> int:
    """Every attempt is final, in doubt (with its age), or younger than its `execute_by` and a minute."""
    for row in await x.connection.fetch(_OPEN_WITHOUT_ROW):
        x.violation(row["id"], "is not final, and nobody will look at it: it has no open row")
    rows = await x.connection.fetch(_OPEN)
    late = []
    for row in rows:
        if row["id"] is None:
            x.violation(row["attempt"], f"holds the slot {row['slot']} of {row['payment']} and does not exist")
        elif row["ended"] is not None and row["slot"] == row["own_slot"]:
            x.violation(row["attempt"], f"is {row['ended']} and still holds its slot")
        elif row["state"] == "created" and row["execute_by"] + LATE_MAX < x.now:
            late.append(row)
        elif row["state"] != "created":
            x.note(row["attempt"], _in_doubt(x, row))
    await _look_again(x, late)
    return await x.count("attempt")


def _in_doubt(x: Examination, row: Record) -> str:
    state = "undone, and asked about again" if row["state"] == "recheck" else str(row["state"]).replace("_", " ")
    tries = "1 try" if row["tries"] == 1 else f"{row['tries']} tries"
    return f"{row['operation']} of {row['payment']} is {state}, for {age(x.now - row['since_at'])}, after {tries}"


async def _look_again(x: Examination, late: Sequence[Record]) -> None:
    """What is still late after some real seconds is late; on a stopped system it waits for the next start."""
    remaining = {row["attempt"]: row for row in late}
    began = time.monotonic()
    while x.running and remaining and time.monotonic() - began < LOOK_AGAIN_SECONDS:
        await sleep(PAUSE_SECONDS)
        still = {row["attempt"] for row in await x.connection.fetch(_LATE, list(remaining), x.now - LATE_MAX)}
        remaining = {attempt: row for attempt, row in remaining.items() if attempt in still}
    for attempt, row in remaining.items():
        what, over = f"the {row['operation']} of {row['payment']}", age(x.now - row["execute_by"])
        if x.running:
            x.violation(attempt, f"{what} was to be sent or given up {over} ago, and neither was done")
        else:
            x.note(attempt, f"{what} is {over} over its time; the next start closes it")


def age(micros: int) -> str:
    """A duration as people say it: its two largest units."""
    parts: list[str] = []
    rest = max(micros, 0)
    for name, size in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        number, rest = divmod(rest, size)
        if number or (name == "s" and not parts):
            parts.append(f"{number} {name}")
    return " ".join(parts[:2])
