"""Seeded defects that a drill on the real system is to find: in SQL, at the rims, and in what is shown and delivered."""

from typing import Final

from chaos.bugs.model import Bug
from chaos.patches import Patch

FLUSH: Final = "db/migrations/0009_payments.sql"
LEDGER: Final = "db/migrations/0005_ledger.sql"
LOG: Final = "db/migrations/0008_log.sql"
ANSWERS: Final = "psp/connectors/cardnet/answers.py"
LANE: Final = "psp/connectors/cardnet/lane.py"

# When what was sent again has been asked about, and has been once more after what was found then.
ASKED_AGAIN: Final = ("90s", "90s", "90s")

SYSTEM: Final = (
    Bug(
        name="second-answer-wins", defect="an outcome overwrites the answer that the key has been given already", drill="doubt",
        patches=(Patch(FLUSH, "AND y.livemode = p_livemode AND y.answer IS NULL OFFSET 0) z", "AND y.livemode = p_livemode OFFSET 0) z"),),
    ),
    Bug(
        name="taken-over-is-unsent", defect="what a dead sender held counts as never sent", drill="kills",
        patches=(
            Patch(
                FLUSH, "        state = CASE state WHEN 'created' THEN 'in_doubt' ELSE state END, execute_by = NULL, breaker = NULL\n"
                "    WHERE sender = p_sender",
                "        state = state\n    WHERE sender = p_sender",
            ),
        ),
    ),
    Bug(
        name="position-beyond-its-effects", defect="a consumer moves one entry further than it has read", drill="quiet",
        patches=(Patch(FLUSH, "UPDATE log_consumer c SET applied_to = m.position\n", "UPDATE log_consumer c SET applied_to = m.position + 1\n"),),
    ),
    Bug(
        name="versions-not-compared", defect="a refund is decided outside the payment's lock", drill="quiet",
        patches=(Patch(FLUSH, "WHERE p.version IS DISTINCT FROM i.expected AND v_ok[i.item];", "WHERE p.version IS NULL AND v_ok[i.item];"),),
    ),
    Bug(
        name="slot-not-asked", defect="a capture does not ask whether the payment's slot is free", drill="quiet",
        patches=(
            Patch(FLUSH, "AND NOT EXISTS (\n            SELECT FROM unnest(p_moves) m WHERE m.final AND m.attempt = o.attempt AND m.slot = i.slot);",
                  "AND false;"),
            Patch(FLUSH, "    PRIMARY KEY (payment, slot),\n", "    PRIMARY KEY (payment, slot, attempt),\n"),
            Patch(FLUSH, "WHERE p.version IS DISTINCT FROM i.expected AND v_ok[i.item];", "WHERE p.version IS NULL AND v_ok[i.item];"),
        ),
    ),
    Bug(
        name="parameters-not-compared", defect="a key that is used for something else gets the first request's answer", drill="quiet",
        patches=(Patch("idempotency/once.py", "    if row[\"fingerprint\"] != claim.fingerprint:\n", "    if row[\"fingerprint\"] is None:\n"),),
    ),
    Bug(
        name="card-in-messages", defect="messages to the PSP are kept as they are, card number and all", drill="cards",
        patches=(Patch(
            LANE, "Direction.SENT, describe(flight.message), flight.sent_at", "Direction.SENT, str(flight.message.fields), flight.sent_at",
        ),),
    ),
    Bug(
        name="signature-over-less", defect="a webhook is signed without its last byte", drill="quiet",
        patches=(Patch("security/sign.py", "        signed = b\"%d.%b\" % (timestamp, body)\n", "        signed = b\"%d.%b\" % (timestamp, body[:-1])\n"),),
    ),
    Bug(
        name="webhook-error-is-delivered", defect="a receiver's 500 counts as delivered", drill="receivers",
        patches=(Patch("webhooks/rules.py", "    return 200 <= status < 300\n", "    return 200 <= status < 600\n"),),
    ),
    Bug(
        name="silence-is-consent", defect="whatever the risk service says nothing about is sent", drill="risk",
        patches=(Patch(
            "risk/external.py", "    return \"pass\" if amount <= tuning.pass_up_to.get(currency, 0) else tuning.larger\n", "    return \"pass\"\n",
        ),),
    ),
    Bug(
        name="silence-not-told", defect="a payment that passes because the risk service is silent does not tell so", drill="risk",
        patches=(Patch("payments/screen.py", "                return Screened(ours, Fallen(notes=(PASSED,)))\n", "                return Screened(ours)\n"),),
    ),
    Bug(
        name="error-is-decline", defect="a code that is on no list counts as a decline", drill="errors",
        patches=(Patch(ANSWERS, "    if ours is None:\n        return _PSP_ERROR\n", "    if ours is None:\n        return Declined(\"generic_decline\", code)\n"),),
    ),
    Bug(
        name="lost-answer-is-not-sent", defect="a request whose answer is missing counts as one that never left", drill="losses",
        patches=(Patch(LANE, "        if flight.written or not flight.order.first:\n", "        if not flight.order.first:\n"),),
    ),
    Bug(
        name="balance-forgets-credits", defect="the ledger does not move the credit side of an account", drill="quiet",
        patches=(Patch(
            LEDGER, "            credits_posted = s.credits_posted, last_chunk = p_base >> 18\n        FROM seen s,",
            "            credits_posted = a.credits_posted, last_chunk = p_base >> 18\n        FROM seen s,",
        ),),
    ),
    Bug(
        name="position-left-out", defect="the log counts a position that it gives to no entry", drill="quiet",
        patches=(Patch(LOG, "UPDATE log_head h SET head = h.head + f.n FROM", "UPDATE log_head h SET head = h.head + f.n + (f.n % 7 = 2)::int FROM"),),
    ),
    Bug(
        name="lost-commit-is-503", defect="a commit whose answer is lost is told as 503, nothing stored", drill="commits",
        patches=(Patch("db/errors.py", "    if committing:\n        return ResultUnknown(", "    if committing is None:\n        return ResultUnknown("),),
    ),
    Bug(
        name="forged-notification-taken", defect="a notification's signature is looked at and not compared", drill="notices",
        patches=(Patch("psp/connectors/webpsp/notifications.py", "    if not any(matches):\n", "    if not matches:\n"),),
    ),
    Bug(
        name="resend-not-asked-about", defect="whether a PSP that got a refund twice has paid it twice is never asked", drill="keys", days=ASKED_AGAIN,
        patches=(Patch(
            "payments/settle.py", "    doubted = s.open.state == AttemptState.IN_DOUBT\n", "    doubted = False\n",
        ),),
    ),
    Bug(
        name="surplus-not-booked", defect="of what a PSP has paid twice the second payment is not booked", drill="keys", days=ASKED_AGAIN,
        patches=(Patch("payments/recheck.py", "            return _surplus_found(s)\n", "            return _next(s, _answers(s))\n"),),
    ),
    Bug(
        name="declined-resend-believed", defect="that a PSP declines a resend counts as a decline of what was sent before", drill="keys", days=ASKED_AGAIN,
        patches=(Patch("payments/resume.py", "        return Unknown(Reason.RESEND_DECLINED.value)\n", "        return outcome\n"),),
    ),
    Bug(
        name="goes-on-in-doubt", defect="a payment goes on at the second PSP while it is in doubt at the first", drill="elsewhere",
        patches=(
            Patch("payments/ways.py", " or not isinstance(outcome, NotSent | Declined):\n", " or isinstance(outcome, NotFound):\n"),
            Patch("payments/fallback.py", "        case _:\n            return False\n\n\ndef _next(", "        case _:\n            return True\n\n\ndef _next("),
            Patch(
                "payments/settle.py", "        case NotSent() | Unknown():\n            return _in_doubt(s, outcome)\n",
                "        case Unknown() if s.onward is not None and s.open.state == AttemptState.CREATED:\n"
                "            return goes_on(s, s.onward, NotSent(outcome.reason))\n"
                "        case NotSent() | Unknown():\n            return _in_doubt(s, outcome)\n",
            ),
        ),
    ),
    Bug(
        name="published-before-it-is", defect="the relay notes that Kafka has an entry before it has sent it", drill="relay", brokers=1,
        patches=(Patch(
            "log/kafka/relay.py", "        crash_point(\"relay.publish\")\n",
            "        ends = {row[\"partition\"]: row[\"position\"] for row in rows}\n"
            "        begins = {row[\"partition\"]: row[\"applied_to\"] for row in rows}\n"
            "        moved = sorted(ends)\n"
            "        await self._db.execute(\n"
            "            _MOVE, self._consumer, self._sender(), moved, [begins[p] for p in moved], [ends[p] for p in moved],\n"
            "        )\n"
            "        crash_point(\"relay.publish\")\n",
        ),),
    ),
    Bug(
        name="lost-tail-not-read", defect="what Kafka has lost is waited for, and never read from the outbox", drill="end", brokers=1,
        patches=(Patch(
            "log/kafka/shelf.py", "        return self.late or not held.through_kafka or any(position <= held.head for position in self._messages)",
            "        return not held.through_kafka",
        ),),
    ),
    Bug(
        name="stream-not-compared", defect="messages of another installation count as entries of this one", drill="poison", brokers=1,
        patches=(Patch(
            "log/kafka/shelf.py", "        if held is None or message.stream != held.stream:\n", "        if held is None:\n",
        ),),
    ),
    Bug(
        name="canary", defect="money appears at the bank that nobody asked for: the plainest violation there is", drill="canary", patches=(),
    ),
)  # fmt: skip
