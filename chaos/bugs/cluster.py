"""Seeded defects that show only where PostgreSQL has a standby, or was restored."""

from typing import Final

from chaos.bugs.model import Bug
from chaos.patches import Patch

FLUSH: Final = "db/migrations/0009_payments.sql"

CLUSTER: Final = (
    Bug(
        name="claim-not-on-the-standby", defect="a claim does not wait for the standby before its request is sent", drill="tail", clustered=True,
        patches=(Patch(
            FLUSH, "    -- A database that has gone back may hold as new what was sent long ago.\n",
            "    PERFORM set_config('synchronous_commit', 'local', true);\n",
        ),),
    ),
    Bug(
        name="answer-not-on-the-standby", defect="a request is answered by an outcome that only the primary has", drill="tail", clustered=True,
        patches=(Patch("idempotency/once.py", "livemode, answer, (SELECT {KEPT}) FROM", "livemode, answer FROM"),),
    ),
    Bug(
        name="webhook-not-on-the-standby", defect="a webhook is sent under a number that only the primary has", drill="tail", clustered=True,
        patches=(Patch("webhooks/store.py", "SELECT n.*, (SELECT {KEPT}) FROM", "SELECT n.* FROM"),),
    ),
    Bug(
        name="result-not-on-the-standby", defect="that a webhook was delivered counts as stored when only the primary knows it", drill="tail",
        clustered=True, patches=(Patch("webhooks/results.py", "            if unsure:\n", "            if unsure and not results:\n"),),
    ),
    Bug(
        name="age-understated", defect="whatever comes from the replica says that it is of now", drill="behind", clustered=True,
        patches=(Patch("db/replica.py", "max(0.0, float(found))", "0.0"),),
    ),
    Bug(
        name="single-objects-lag", defect="single objects come from the replica, too", drill="behind", clustered=True,
        patches=(Patch("api/app.py", "    if not route.may_lag or replica is None", "    if replica is None"),),
    ),
    Bug(
        name="silent-replica-waited-for", defect="a list waits for a replica for as long as it is silent", drill="silent", clustered=True,
        patches=(Patch("db/replica.py", "PATIENCE_SECONDS: Final = 1.0\n", "PATIENCE_SECONDS: Final = 600.0\n"),),
    ),
    Bug(
        name="restore-not-noticed", defect="a database that is behind the number outside is not put into quarantine", drill="restored", clustered=True,
        patches=(Patch("db/installation.py", "    behind = max(0, outside - (generation - 1))\n", "    behind = 0\n"),),
    ),
    Bug(
        name="quarantine-not-heeded", defect="requests are accepted in quarantine", drill="restored", clustered=True,
        patches=(Patch("db/quarantine.py", "self.found(sound=await self._db.fetchval(_STANDING) is None)", "self.found(sound=True)"),),
    ),
    Bug(
        name="lifted-as-unsent", defect="when a quarantine ends, what had not been sent by the backup counts as never sent", drill="restored", clustered=True,
        patches=(Patch(
            FLUSH, "        state = CASE state WHEN 'created' THEN 'in_doubt' ELSE state END, execute_by = NULL, breaker = NULL;\n",
            "        state = state;\n",
        ),),
    ),
)  # fmt: skip
