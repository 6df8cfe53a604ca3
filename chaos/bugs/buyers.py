"""Seeded defects that only the payment page and the till show: in drills that pay there more often than anywhere else."""

from typing import Final

from chaos.bugs.model import Bug
from chaos.patches import Patch

BUYERS: Final = (
    Bug(
        name="order-of-two-payments", defect="a form that is clicked twice can make a session's payment twice, and each is charged",
        drill="quiet", mostly="order",
        patches=(Patch(
            "db/migrations/0011_orders.sql", "    PERFORM 1 FROM checkout_session WHERE id = p_id AND version = p_expected FOR UPDATE;\n",
            "    PERFORM 1 FROM checkout_session WHERE id = p_id AND version >= 1 FOR UPDATE;\n",
        ),),
    ),
    Bug(
        name="doubt-shown-as-canceled", defect="while the bank is asked, the page says that the payment was canceled and nothing charged",
        drill="doubt", mostly="order",
        patches=(Patch(
            "checkout/show.py", "    if status is PaymentState.PROCESSING:\n        return \"waiting\"\n",
            "    if status is PaymentState.PROCESSING:\n        return \"canceled\"\n",
        ),),
    ),
    Bug(
        name="told-before-it-is-so", defect="the till is told that it was not paid, and nobody undoes what the bank approves later",
        drill="doubt", mostly="till",
        patches=(Patch(
            "payments/till.py", "            if await services.store.commit(change) is None and change.answer is not None:\n",
            "            if change.answer is not None:\n",
        ),),
    ),
    Bug(
        name="readers-refusal-not-kept", defect="what a reader refuses does not stand under its key, and is looked at anew when it comes again",
        drill="doubt", mostly="till",
        patches=(Patch(
            "api/call.py", "        return await self.result(await refuse(self.services.payments, self.claim, refusal))\n", "        raise refusal\n",
        ),),
    ),
    Bug(
        name="dated-by-business-time", defect="messages bear their entry's business time, which brokers refuse when it is hours ahead",
        # Orders expire when business time has moved, long after all else has come to rest.
        drill="quiet", mostly="order", brokers=1, days=("25h",),
        patches=(
            Patch("log/kafka/relay.py", "e.position, e.key, e.payload,\n", "e.position, e.key, e.payload, e.created_at,\n"),
            Patch("log/kafka/relay.py", "SELECT l.position, l.key, l.payload FROM", "SELECT l.position, l.key, l.payload, l.created_at FROM"),
            Patch(
                "log/kafka/publisher.py", "                headers=headers_of(row[\"position\"], row[\"stream\"]),\n",
                "                headers=headers_of(row[\"position\"], row[\"stream\"]), timestamp=row[\"created_at\"] // 1000,\n",
            ),
        ),
    ),
)  # fmt: skip
