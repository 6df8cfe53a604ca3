"""Check: every invariant, one after the other, on all of the books."""

import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final

from guilder.core.clock import Micros
from guilder.db import Database
from guilder.integrity import attempts, entries, ledger, log, payments, sessions, shown, truth, webhooks
from guilder.integrity.model import Check, Examination, Progress, Result, Skipped
from guilder.integrity.witness import Lines

ROLE: Final = "guilder_reader"

CHECKS: Final = (
    Check("ledger_index", "The ledger's index has no gaps", ledger.index),
    Check("ledger_accounts", "Ledger accounts stand where transfers put them", ledger.accounts),
    Check("trial_balance", "Debits equal credits: the trial balance is zero", ledger.trial_balance),
    Check("wallet", "Wallet, ledger and balance transactions agree", entries.wallet),
    Check("balance_transactions", "Captures and refunds have balance transactions", entries.balance_transactions),
    Check("charges", "Charges agree with attempts, holds, refunds", payments.charges),
    Check("refunds", "Refunds agree with their attempts", payments.refunds),
    Check("payments", "Payments' states agree with their charges", payments.payments),
    Check("sessions", "Orders agree with their payments and events", sessions.sessions),
    Check("shown", "What the API shows is what the books hold", shown.shown),
    Check("idempotency_keys", "Requests that have ended have their answers", payments.keys),
    Check("log", "Log positions and consumers have no gaps", log.positions),
    Check("events", "Events are numbered without gaps", log.events),
    Check("deliveries", "Webhook deliveries are numbered without gaps", webhooks.deliveries),
    Check("attempts", "Attempts are final, in doubt, or still in time", attempts.attempts, live=True),
    Check("truth", "The bank's truth and the books agree", truth.truth, live=True),
)
"""In the order in which they are made. One that fails does not keep the others from being made."""

# A sum over everything takes as long as it takes; the session is the check's own, and holds no lock that anybody waits for.
_SESSION: Final = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


async def examine(
    dsn: str, *, now: Micros, running: bool, witness: Lines | None, tell: Callable[[Progress], None], elsewhere: Collection[str] = (),
) -> AsyncIterator[Result]:  # fmt: skip
    """Make every check and yield what each found, in the order of CHECKS. Changes nothing; payments may go on meanwhile.

    Args:
        dsn: the database's address.
        now: business time.
        running: whether somebody works on what is open.
        witness: the sandbox bank world's truth; None skips what needs it.
        elsewhere: connectors to other banks than the witness's.
        tell: called now and then with how far the present check has come.

    Raises:
        Unavailable: the database cannot be reached. WitnessSilent: the bank world was there and went away.
    """
    database = await Database.connect(dsn, role=ROLE, max_size=1, name="check")
    try:
        async with database.connection() as connection:
            await connection.execute(_SESSION)
            examination = Examination(
                connection, now=now, running=running, witness=witness, tell=tell, elsewhere=elsewhere,
            )  # fmt: skip
            await connection.execute(_BEGIN)
            for check in CHECKS:
                if not check.live:
                    yield await _look(examination, check)
            await connection.execute("ROLLBACK")
            for check in CHECKS:
                if check.live:
                    yield await _look(examination, check)
    finally:
        await database.close()


async def _look(examination: Examination, check: Check) -> Result:
    began = time.monotonic()
    examination.begin(check.name, check.title)
    examined, skipped = 0, None
    try:
        examined = await check.look(examination)
    except Skipped as reason:
        skipped = str(reason)
    return Result(
        name=check.name, title=check.title, examined=examined, violated=examination.violated,
        violations=tuple(examination.violations), notes=tuple(examination.notes), seconds=time.monotonic() - began,
        skipped=skipped,
    )  # fmt: skip
