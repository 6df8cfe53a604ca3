"""Seeded defects that only buyers see, at the payment page and at the till: in drills that pay there more often than anywhere else."""

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
)  # fmt: skip
