"""The scenario: everything that a card payment can become, each act with what is to happen."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Final

from guilder.core.clock import SystemClock
from guilder.core.ids import Ids
from guilder.demo.buyers import buyers_acts
from guilder.demo.model import Act, Done, Stage, Told
from guilder.demo.shop import net_of, paid, written

# The sandbox's price list: 1.5 percent.
BASIS_POINTS: Final = 150
# The connector waits 8 s for an answer that was lost, and asks a second later; this is ample.
RESOLVED_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.1
# Webhooks follow their events within a fraction of a second; this is ample.
NOTIFIED_SECONDS: Final = 15.0
# An amount that no other act has, so that the fault hits this one, and the bank's record of it can be counted.
LOST_AMOUNT: Final = 7_331
RETRIED_AMOUNT: Final = 4_242

CURRENCIES: Final = (
    ("pm_card_visa", "Visa", 1_099, "eur"),
    ("pm_card_mastercard", "Mastercard", 250_000, "usd"),
    ("pm_card_discover", "Discover", 4_999, "gbp"),
    ("pm_card_jcb", "JCB", 1_500, "jpy"),
    ("pm_card_unionpay", "UnionPay", 32_000, "krw"),
    ("pm_card_visa_debit", "Visa debit", 12_340, "kwd"),
)
DECLINES: Final = (
    ("pm_card_visa_chargeDeclined", "without a reason", "card_declined generic_decline"),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient funds", "card_declined insufficient_funds"),
    ("pm_card_visa_chargeDeclinedLostCard", "lost card", "card_declined lost_card"),
    ("pm_card_visa_chargeDeclinedStolenCard", "stolen card", "card_declined stolen_card"),
    ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "over the issuer's limit", "card_declined card_velocity_exceeded"),
    ("pm_card_chargeDeclinedExpiredCard", "expired card", "expired_card"),
    ("pm_card_chargeDeclinedIncorrectCvc", "wrong CVC", "incorrect_cvc"),
    ("pm_card_chargeDeclinedProcessingError", "processing error", "processing_error"),
    ("pm_card_chargeCustomerFail", "saved, then declined", "card_declined generic_decline"),
    ("pm_card_radarBlock", "blocked by our rules", "card_declined fraudulent"),
    ("pm_card_riskLevelHighest", "highest risk", "card_declined fraudulent"),
)


def acts() -> Sequence[Act]:
    """What is done, in this order, save what is done beside and what closes."""
    return (
        _lost_answer(), *_successes(), *_declines(), *_captures(), *_refunds(), *_retries(), *buyers_acts(BASIS_POINTS), _notified(),
    )  # fmt: skip


def play(stage: Stage, tell: Callable[[Act], None]) -> Iterator[Done]:
    """Do it all and yield each act when it is over. Nothing stops it: what goes wrong is what happened."""
    every = acts()
    with ThreadPoolExecutor(max_workers=1 + sum(act.beside for act in every)) as pool:
        beside: list[Future[Done]] = [pool.submit(_done, act, stage) for act in every if act.beside]
        for act in every:
            if not act.beside and not act.closing:
                tell(act)
                yield _done(act, stage)
        for act in every:
            if act.beside:
                tell(act)
        for future in as_completed(beside):
            yield future.result()
    for act in every:
        if act.closing:
            tell(act)
            yield _done(act, stage)


def _done(act: Act, stage: Stage) -> Done:
    began = time.monotonic()
    try:
        told = act.do(stage)
    except Exception as error:
        # The demo shows what happened, whatever it was; the table and the exit status say that it was not to.
        told = Told(f"{type(error).__name__}: {error}")
    return Done(
        group=act.group, what=act.what, amount=act.amount, expected=act.expected, happened=told.happened, payment=told.payment,
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _successes() -> Iterator[Act]:
    for card, name, amount, currency in CURRENCIES:
        expected = f"succeeded, net {net_of(amount, currency, BASIS_POINTS)}"
        yield _payment("Paid", name, amount=amount, currency=currency, card=card, expected=expected)
    now = f"succeeded, net {net_of(2_000, 'eur', BASIS_POINTS)}, available at once"
    yield _payment("Paid", "Visa, funds at once", amount=2_000, currency="eur", card="pm_card_bypassPending", expected=now)


def _declines() -> Iterator[Act]:
    for card, name, codes in DECLINES:
        yield _payment("Declined", name, amount=2_500, currency="eur", card=card, expected=codes)
    # A number that is no card's: the last digit is wrong.
    yield Act(
        group="Declined", what="mistyped number", amount="", expected="incorrect_number",
        do=lambda stage: Told(stage.shop.make_card("4242" * 3 + "4241")),
    )  # fmt: skip


def _payment(group: str, what: str, *, amount: int, currency: str, card: str, expected: str) -> Act:
    def do(stage: Stage) -> Told:
        return Told(*stage.shop.outcome(amount, currency, card))

    return Act(group=group, what=what, amount=written(amount, currency), expected=expected, do=do)


def _captures() -> Iterator[Act]:
    def capture(stage: Stage) -> Told:
        held = stage.shop.pay(5_000, "eur", "pm_card_visa", capture_method="manual")
        taken = stage.shop.client.v1.payment_intents.capture(
            held.id, {"amount_to_capture": 2_000, "expand": ["latest_charge.balance_transaction"]}
        )
        return Told(f"{held.status}, then {paid(taken)}", held.id)

    def cancel(stage: Stage) -> Told:
        held = stage.shop.pay(6_400, "usd", "pm_card_mastercard", capture_method="manual")
        given_up = stage.shop.client.v1.payment_intents.cancel(held.id, {"cancellation_reason": "requested_by_customer"})
        return Told(f"{held.status}, then {given_up.status}, {given_up.amount_capturable} held", held.id)

    yield Act(
        group="Captured", what="20.00 of it", amount=written(5_000, "eur"), do=capture,
        expected=f"requires_capture, then succeeded, net {net_of(2_000, 'eur', BASIS_POINTS)}",
    )  # fmt: skip
    yield Act(
        group="Canceled", what="an authorization", amount=written(6_400, "usd"), do=cancel,
        expected="requires_capture, then canceled, 0 held",
    )  # fmt: skip


def _refunds() -> Iterator[Act]:
    def refund(amount: int, currency: str, parts: Sequence[int | None]) -> Callable[[Stage], Told]:
        def do(stage: Stage) -> Told:
            intent = stage.shop.pay(amount, currency, "pm_card_visa")
            made = [stage.shop.refund(intent.id, part) for part in parts]
            charge = stage.shop.client.v1.charges.retrieve(str(made[0].charge))
            states = ", ".join(f"{written(one.amount, currency)} {one.status}" for one in made)
            return Told(f"{states}; {'all' if charge.refunded else 'part'} of it back", intent.id)

        return do

    yield Act(
        group="Refunded", what="in part", amount=written(3_000, "eur"), do=refund(3_000, "eur", [1_000]),
        expected="10.00 EUR succeeded; part of it back",
    )  # fmt: skip
    yield Act(
        group="Refunded", what="in part, then the rest", amount=written(8_000, "jpy"), do=refund(8_000, "jpy", [3_000, None]),
        expected="3,000 JPY succeeded, 5,000 JPY succeeded; all of it back",
    )  # fmt: skip
    yield Act(
        group="Refunded", what="whole", amount=written(1_999, "usd"), do=refund(1_999, "usd", [None]),
        expected="19.99 USD succeeded; all of it back",
    )  # fmt: skip


def _retries() -> Iterator[Act]:
    key = Ids(SystemClock()).new("demo")

    def retry(stage: Stage) -> Told:
        first = stage.shop.pay(RETRIED_AMOUNT, "eur", "pm_card_visa", key=key)
        again = stage.shop.pay(RETRIED_AMOUNT, "eur", "pm_card_visa", key=key)
        same = "the same answer" if again.id == first.id else "another payment"
        return Told(f"{same}, charged {stage.bank.charged(RETRIED_AMOUNT, 'eur')} time", first.id)

    yield Act(
        group="Retried", what="same idempotency key", amount=written(RETRIED_AMOUNT, "eur"), do=retry,
        expected="the same answer, charged 1 time",
    )  # fmt: skip
    yield Act(
        group="Retried", what="same key, other amount", amount=written(RETRIED_AMOUNT + 1, "eur"), expected="idempotency_error",
        do=lambda stage: Told(stage.shop.refusal(RETRIED_AMOUNT + 1, "eur", "pm_card_visa", key=key)),
    )  # fmt: skip


def _lost_answer() -> Act:
    """The PSP's answer is lost: nobody knows, and nobody guesses; the PSP is asked until it is known."""

    def do(stage: Stage) -> Told:
        stage.bank.lose_answer(operation="purchase", amount=LOST_AMOUNT)
        first = stage.shop.pay(LOST_AMOUNT, "eur", "pm_card_visa")
        began, now = time.monotonic(), first
        while now.status == "processing" and time.monotonic() - began < RESOLVED_SECONDS:
            time.sleep(POLL_SECONDS)
            now = stage.shop.client.v1.payment_intents.retrieve(first.id)
        charged = stage.bank.charged(LOST_AMOUNT, "eur")
        return Told(f"{first.status}, then {now.status}, charged {charged} time", first.id)

    return Act(
        group="Resolved", what="PSP's answer lost", amount=written(LOST_AMOUNT, "eur"), do=do, beside=True,
        expected="processing, then succeeded, charged 1 time",
    )  # fmt: skip


def _notified() -> Act:
    """Every event of the shop has come as a webhook, once, and signed."""

    def do(stage: Stage) -> Told:
        events = {event.id for event in stage.shop.client.v1.events.list({"limit": 100}).auto_paging_iter()}
        began = time.monotonic()
        while events - stage.inbox.events.keys() and time.monotonic() - began < NOTIFIED_SECONDS:
            time.sleep(POLL_SECONDS)
        came = stage.inbox.events
        missing, twice = len(events - came.keys()), sum(times - 1 for times in came.values())
        if events and not (missing or twice or stage.inbox.unsigned):
            return Told("each came once, signed")
        return Told(f"of {len(events)}: {missing} missing, {twice} again, {stage.inbox.unsigned} not signed")

    return Act(
        group="Notified", what="a webhook of every event", amount="", expected="each came once, signed", do=do, closing=True,
    )  # fmt: skip
