"""What buyers do: pay at the payment page, answer their bank, hold a card to a reader."""

import time
from collections.abc import Iterator
from typing import Final

from guilder.demo.browser import Page
from guilder.demo.model import Act, Stage, Told
from guilder.demo.shop import net_of, paid, written

# An amount that no other act has, so that the fault hits this one.
SILENT_AMOUNT: Final = 8_118
# The till is answered within 8 s; the reversal follows within a second. This is ample.
UNDONE_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.1

VISA: Final = "4242 4242 4242 4242"
DECLINED: Final = "4000 0000 0000 0002"
CHALLENGED: Final = "4000 0000 0000 3220"
_BUYER: Final = {"email": "ada@example.com", "expiry": "12 / 34", "cvc": "123", "name": "Ada Lovelace", "postal_code": "1012 LG"}


def buyers_acts(basis_points: int) -> Iterator[Act]:
    """The acts in which a buyer has a part, at the sandbox's price."""
    yield from _at_the_page()
    yield _by_the_api(basis_points)
    yield from _at_the_till(basis_points)


def _at_the_page() -> Iterator[Act]:
    def buy(stage: Stage, amount: int, *numbers: str) -> tuple[Page, str]:
        """An order, and the form sent once for each number; the last page, and the session's id."""
        session = stage.shop.order(amount, stage.inbox.home)
        page = Page.open(str(session.url))
        for number in numbers:
            page = page.send(_BUYER | {"number": number})
        return page, session.id

    def end(stage: Stage, session: str) -> Told:
        state, payment, tries = stage.shop.ordered(session)
        return Told(f"{state}, {tries} tries" if tries > 1 else state, payment)

    def once(stage: Stage) -> Told:
        page, session = buy(stage, 4_299, VISA)
        page.follow(stage.inbox.home)
        told = end(stage, session)
        return Told(f"{told.happened}, {'back in the shop' if session in stage.inbox.visits else 'lost on the way'}", told.payment)

    def twice(stage: Stage) -> Told:
        return end(stage, buy(stage, 1_750, DECLINED, VISA)[1])

    def challenged(stage: Stage) -> Told:
        page, session = buy(stage, 12_000, CHALLENGED)
        page.follow("/authenticate/").send({"answer": "pass"})
        return end(stage, session)

    yield Act(
        group="At the page", what="an order, by form posts", amount=written(4_299, "eur"), do=once,
        expected="complete and paid, back in the shop",
    )  # fmt: skip
    yield Act(
        group="At the page", what="declined, then another card", amount=written(1_750, "eur"), do=twice,
        expected="complete and paid, 2 tries",
    )  # fmt: skip
    yield Act(
        group="At the page", what="3-D Secure challenge", amount=written(12_000, "eur"), do=challenged, expected="complete and paid",
    )  # fmt: skip


def _by_the_api(basis_points: int) -> Act:
    def do(stage: Stage) -> Told:
        ways = {"enabled": True}
        held = stage.shop.pay(
            7_000, "usd", "pm_card_threeDSecure2Required", return_url=stage.inbox.home, automatic_payment_methods=ways,
        )  # fmt: skip
        way = held.next_action.redirect_to_url if held.next_action else None
        Page.open(str(way.url) if way else "").send({"answer": "pass"})
        now = stage.shop.client.v1.payment_intents.retrieve(held.id, {"expand": ["latest_charge.balance_transaction"]})
        return Told(f"{held.status}, then {paid(now)}", held.id)

    return Act(
        group="By the API", what="3-D Secure challenge", amount=written(7_000, "usd"), do=do,
        expected=f"requires_action, then succeeded, net {net_of(7_000, 'usd', basis_points)}",
    )  # fmt: skip


def _at_the_till(basis_points: int) -> Iterator[Act]:
    def holds_card(stage: Stage) -> Told:
        reader, payment = stage.shop.till(2_500, "eur")
        action = stage.shop.hold_card(reader)
        now = stage.shop.client.v1.payment_intents.retrieve(payment, {"expand": ["latest_charge.balance_transaction"]})
        return Told(f"reader says {action}; {paid(now)}", payment)

    def silent(stage: Stage) -> Told:
        reader, payment = stage.shop.till(SILENT_AMOUNT, "eur")
        stage.bank.lose_answer(operation="purchase", amount=SILENT_AMOUNT)
        action = stage.shop.hold_card(reader)
        began = time.monotonic()
        while stage.bank.kept(SILENT_AMOUNT, "eur") and time.monotonic() - began < UNDONE_SECONDS:
            time.sleep(POLL_SECONDS)
        charged, kept = stage.bank.charged(SILENT_AMOUNT, "eur"), stage.bank.kept(SILENT_AMOUNT, "eur")
        return Told(f"reader says {action}; charged {charged} time, {kept} kept", payment)

    yield Act(
        group="At the till", what="a card held to the reader", amount=written(2_500, "eur"), do=holds_card,
        expected=f"reader says succeeded; succeeded, net {net_of(2_500, 'eur', basis_points)}",
    )  # fmt: skip
    yield Act(
        group="At the till", what="no answer in 8 s", amount=written(SILENT_AMOUNT, "eur"), do=silent, beside=True,
        expected="reader says failed processing_error; charged 1 time, 0 kept",
    )  # fmt: skip
