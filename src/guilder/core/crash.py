"""Crash points: named places at which a test kills the process for real, to show that recovery starts right there.

Off unless GUILDER_CRASH_FILE names a file. The file holds the name of one point; the first process that reaches it
removes the file and kills itself with SIGKILL, so whoever replaces it goes on undisturbed.

    accept.before accept.after      around the commit of the accept, in the process of the API
    claim.before claim.after        around the commit of the claim
    send.before                     claimed, nothing written
    send.after                      written, no answer read
    answer                          an answer was read, nothing is stored of it
    outcome.before outcome.after    around the commit of the outcome
    challenge.before challenge.after around the commit that opens a challenge or ends it
    reopen.before reopen.after      around the commit that has a PSP asked once more, as what came of a challenge
    fan_out                         the rows of an event's deliveries are written, not committed
    deliver.before                  a delivery is in hand, nothing written
    deliver.sent                    a receiver has answered, nothing is stored of it
    deliver.stored                  what came of a delivery is stored
    relay.publish                   entries are in the relay's hand, Kafka has none of them
    relay.acknowledged              Kafka has acknowledged them, nothing is stored of it
    offset.commit                   effects and positions are stored, Kafka is not told how far we are
    session.before session.after    around the commit of a Checkout Session, with its payment or alone
"""

import os
import signal
from typing import Final

VARIABLE: Final = "GUILDER_CRASH_FILE"
POINTS: Final = frozenset({
    "accept.before", "accept.after", "claim.before", "claim.after", "send.before", "send.after", "answer", "outcome.before",
    "outcome.after", "challenge.before", "challenge.after", "reopen.before", "reopen.after", "fan_out", "deliver.before", "deliver.sent",
    "deliver.stored", "session.before", "session.after", "relay.publish", "relay.acknowledged", "offset.commit",
})  # fmt: skip


_file: Final = os.environ.get(VARIABLE)


def crash_point(name: str, detail: str = "") -> None:
    """Die here if the crash file says so: it holds `name`, or `name detail` to die for one operation only."""
    if _file is None:
        return
    try:
        with open(_file, encoding="utf-8") as file:  # noqa: PTH123 - on the hot path of tests
            wanted = file.read().strip()
        if wanted in (name, f"{name} {detail}"):
            os.unlink(_file)  # noqa: PTH108
            os.kill(os.getpid(), signal.SIGKILL)
    except FileNotFoundError:
        return
