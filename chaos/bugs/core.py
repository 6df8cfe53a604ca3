"""Seeded defects that the simulation is to find: in what is decided between the commits, and in who may send."""

from typing import Final

from chaos.bugs.model import Bug
from chaos.patches import Patch

SETTLE: Final = "payments/settle.py"
RESUME: Final = "payments/resume.py"
SENDER: Final = "db/sender.py"
BOOKS: Final = "payments/books.py"
REFUNDS: Final = "payments/refunds.py"

CORE: Final = (
    Bug(
        name="timeout-is-failure", defect="a timeout counts as failed",
        patches=(Patch(
            SETTLE, "        case NotSent() | Unknown():\n            return _in_doubt(s, outcome)\n",
            "        case NotSent() | Unknown():\n            return _UNSENT[s.attempt.operation](s, AttemptState.NOT_SENT)\n",
        ),),
    ),
    Bug(
        name="not-found-is-absent", defect="\"not found\" counts as proof that nothing happened",
        patches=(Patch(
            SETTLE, "    if s.attempt.operation in NEW_PAYMENTS:\n        state = after(ATTEMPT, AttemptState(s.open.state), ",
            "    if s.attempt.operation in NEW_PAYMENTS:\n        return _UNSENT[s.attempt.operation](s, AttemptState.NOT_SENT)\n"
            "        state = after(ATTEMPT, AttemptState(s.open.state), ",
        ),),
    ),
    Bug(
        name="new-key-per-resend", defect="a resend has a key and a reference of its own",
        patches=(Patch(
            RESUME, "        return None\n    return replace(first_order(attempt), first=False)\n",
            "        return None\n    return replace(first_order(attempt), first=False, reference=attempt.id[-12:].upper())\n",
        ),),
    ),
    Bug(
        name="reversal-dropped", defect="a reversal is given up after two tries and counts as done",
        patches=(Patch(
            SETTLE, "    tries = s.open.tries + 1\n    # Silence",
            "    tries = s.open.tries + 1\n    if tries > 1:\n        return _UNSENT[s.attempt.operation](s, AttemptState.UNDONE)\n    # Silence",
        ),),
    ),
    Bug(
        name="approved-while-reversing", defect="a late approval wins over a reversal that has begun",
        patches=(Patch(
            SETTLE, "    if s.open.state == AttemptState.REVERSING:\n",
            "    if s.open.state == AttemptState.REVERSING and not (isinstance(outcome, Approved) and s.asked is s.attempt.operation):\n",
        ),),
    ),
    Bug(
        name="refund-not-reserved", defect="a refund does not reserve its amount on the charge",
        patches=(Patch(
            REFUNDS, "    return replace(charge, facts=facts, refunded=refunded, refunding=refunding)\n",
            "    return replace(charge, facts=facts, refunded=refunded, refunding=0)\n",
        ),),
    ),
    Bug(
        name="wrong-amount-accepted", defect="an approval of another amount counts as one of ours",
        patches=(Patch(
            SETTLE, "        case Unknown(reason=Reason.MISMATCH) if s.attempt.operation in NEW_PAYMENTS:\n            return _mismatched(s, outcome)\n",
            "        case Unknown(reason=Reason.MISMATCH) if s.attempt.operation in NEW_PAYMENTS:\n"
            "            return _APPROVED[s.attempt.operation](s, Approved(\"\"))\n",
        ),),
    ),
    Bug(
        name="no-fencing", defect="whoever lost its lease goes on sending",
        patches=(Patch(
            SENDER, "        return sender == self.id and self._clock.boot() - self._renewed < SEND_SECONDS\n", "        return bool(sender)\n",
        ),),
    ),
    Bug(
        name="old-claims-are-sent", defect="what was claimed under the id before the takeover is sent under the new one",
        patches=(Patch(
            SENDER, "        return sender == self.id and self._clock.boot() - self._renewed < SEND_SECONDS\n",
            "        return bool(sender) and self._clock.boot() - self._renewed < SEND_SECONDS\n",
        ),),
    ),
    Bug(
        name="takeover-too-soon", defect="another takes over before the first has stopped sending",
        patches=(Patch(SENDER, "TAKEOVER_SECONDS: Final = 3.5\n", "TAKEOVER_SECONDS: Final = 1.0\n"),),
    ),
    Bug(
        name="lease-too-long", defect="a sender writes for longer than its lease",
        patches=(Patch(SENDER, "SEND_SECONDS: Final = 3.0\n", "SEND_SECONDS: Final = 30.0\n"),),
    ),
    Bug(
        name="float-fee", defect="the fee is a float, rounded half to even",
        patches=(Patch(
            BOOKS, "    return share(attempt.amount // unit, attempt.facts.terms.basis_points) * unit\n",
            "    return round(attempt.amount / unit * attempt.facts.terms.basis_points / 10_000 - 1e-9) * unit\n",
        ),),
    ),
    Bug(
        name="partial-capture-counts-whole", defect="a partial capture is booked as one of the whole amount",
        patches=(Patch(
            SETTLE, "    taken = replace(before.facts, captured=True, amount_captured=s.attempt.amount)\n",
            "    taken = replace(before.facts, captured=True, amount_captured=before.facts.amount)\n",
        ),),
    ),
    Bug(
        name="known-approvals-are-news", defect="an approval that comes twice counts as found late, and is undone",
        patches=(Patch("payments/recheck.py", " and attempt.id not in payment.approved\n", "\n"),),
    ),
    Bug(
        name="cancel-ignores-claim", defect="a cancel closes an attempt that somebody has claimed",
        patches=(
            Patch(
                "payments/cancel.py", " or open_.state != AttemptState.CREATED or open_.sender is not None or ",
                " or open_.state != AttemptState.CREATED or ",
            ),
            Patch("payments/cancel.py", "after=AttemptState.NOT_SENT, reporter=UNCLAIMED,\n", "after=AttemptState.NOT_SENT,\n"),
        ),
    ),
    Bug(
        name="currency-lost", defect="what follows a payment is sent in the first currency of the list",
        patches=(Patch(
            "payments/begin.py", "        slot=slot, amount=amount, currency=payment.facts.currency, execute_by=",
            "        slot=slot, amount=amount, currency=\"eur\", execute_by=",
        ),),
    ),
    Bug(
        name="wrong-exponent", defect="the dinar's third decimal is cut off on the wire",
        patches=(Patch(
            RESUME, "amount_minor=attempt.amount, currency=attempt.currency,",
            "amount_minor=attempt.amount // (10 if attempt.currency == \"kwd\" else 1), currency=attempt.currency,",
        ),),
    ),
    Bug(
        name="refused-refund-stays-reserved", defect="a refund that was refused keeps its reservation",
        patches=(Patch(
            BOOKS, "    transfers = wallet.refund_failed(ids, reservation=_reservation(attempt), refund=refund.id)\n",
            "    transfers = ()\n",
        ),),
    ),
    Bug(
        name="fee-not-shown", defect="the balance transaction leaves the fee out",
        patches=(Patch(BOOKS, "created=epoch_seconds(now), amount=attempt.amount, fee=fee,", "created=epoch_seconds(now), amount=attempt.amount, fee=0,"),),
    ),
    Bug(
        name="hold-not-released", defect="a void leaves the hold in the ledger",
        patches=(Patch(
            "payments/voids.py", "    booked = books.release(refunds.charge_of(s.payment), ids=s.ids)\n",
            "    booked = books.Booked(refunds.charge_of(s.payment), ())\n",
        ),),
    ),
    Bug(
        name="doubt-forgotten", defect="an attempt in doubt is not looked at again",
        patches=(Patch(
            "payments/schedule.py", "        return after_wait(self._by_state(state, answered=answered), tries, now, uniform)\n",
            "        return after_wait(self._by_state(state, answered=answered), tries, now, uniform) + (400 * DAY if state == AttemptState.IN_DOUBT else 0)\n",
        ),),
    ),
    Bug(
        name="answer-to-another-key", defect="the outcome of a capture answers the key of the payment's first request",
        patches=(Patch(
            "payments/settling.py", "answers=s.attempt.facts.key,\n",
            "answers=s.payment.authorized_by.facts.key if s.payment.authorized_by else s.attempt.facts.key,\n",
        ),),
    ),
)  # fmt: skip
