"""Write the documents that are drawn from the code: docs/states.md and docs/openapi.json. The same code gives the same bytes.

Run by `make generate`; CI then demands that nothing has changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from guilder.api.openapi import document
from guilder.api.routes import registry
from guilder.orders.states import SESSION, SessionEvent, SessionState
from guilder.payments.states import (
    ATTEMPT,
    CHALLENGE,
    PAYMENT,
    REFUND,
    AttemptEvent,
    AttemptState,
    ChallengeEvent,
    ChallengeState,
    PaymentEvent,
    PaymentState,
    RefundEvent,
    RefundState,
)

DOCS: Final = Path(__file__).parent
_P: Final = PaymentState

Moves = Mapping[StrEnum, Mapping[StrEnum, StrEnum]]

MEANINGS: Final[Mapping[type[StrEnum], Mapping[StrEnum, str]]] = {
    PaymentEvent: {
        PaymentEvent.METHOD_GIVEN: "an update names a PaymentMethod",
        PaymentEvent.METHOD_TAKEN: "an update takes the PaymentMethod away",
        PaymentEvent.CHANGED: "an update names another amount or currency: the authentication that waits would not hold for it",
        PaymentEvent.CONFIRMED: "an attempt to take or authorize the money, or to authenticate its buyer first, is accepted",
        PaymentEvent.REFUSED: "our own rules refuse it; nothing is sent",
        PaymentEvent.PAID: "a purchase is approved",
        PaymentEvent.AUTHORIZED: "an authorization is approved",
        PaymentEvent.FAILED: "it is declined, was certainly not sent, or is undone; or the buyer was not authenticated",
        PaymentEvent.WITHDRAWN: "the PSP's own page may not be paid any more: its time is over, or something else is to be done",
        PaymentEvent.ACTION_WANTED: "the issuer wants to see the buyer (3-D Secure), or the buyer is to pay at the PSP's own page",
        PaymentEvent.CAPTURE_SENT: "a capture is accepted",
        PaymentEvent.CAPTURED: "the capture is approved",
        PaymentEvent.CAPTURE_FAILED: "the capture is declined or was certainly not sent; the authorization stands",
        PaymentEvent.CANCEL_SENT: "a void is accepted, for a cancel or because the authorization has expired",
        PaymentEvent.CANCEL_FAILED: "the void is declined or was certainly not sent; the authorization stands",
        PaymentEvent.CANCELED: "nothing is held any more, or nothing ever was",
        PaymentEvent.FOUND_VOIDED: "a void that had been closed turns out to have been done: nothing is held any more",
    },
    AttemptEvent: {
        AttemptEvent.APPROVAL: "the PSP says, definitely, that it is done",
        AttemptEvent.DECLINE: "the PSP says, definitely, that it is refused and nothing was moved",
        AttemptEvent.ACTION_WANTED: "the buyer must do something first",
        AttemptEvent.PAGE_OPENED: "the PSP's own page is open: the buyer may pay there, and nobody knows whether he has",
        AttemptEvent.PROVED_UNSENT: "the connector's own record shows that no byte was written this time",
        AttemptEvent.PUT_OFF: "nothing was sent, and it may wait: for room, for a PSP, for the risk service",
        AttemptEvent.NO_DEFINITE_ANSWER: "a timeout, a reset, or an answer that is not on the list of definite ones",
        AttemptEvent.SENDER_LOST: "the process that had claimed it is gone; what it had written nobody knows",
        AttemptEvent.REVERSAL_DECIDED: "the PSP does not know it, or approved other money than was asked for: it is undone",
        AttemptEvent.REVERSAL_ACKNOWLEDGED: "the PSP has confirmed the reversal",
        AttemptEvent.FINALITY_PASSED: "the connector's horizon has passed without a trace of it",
        AttemptEvent.FOUND: "a refund or void turns out to have been done after all: a fact, and booked (all else is undone once more)",
    },
    ChallengeEvent: {
        ChallengeEvent.AUTHENTICATED: "the issuer says that it is the buyer: the next authorization carries its proof",
        ChallengeEvent.ANSWERED_FOR: "the scheme answers for the issuer: as above",
        ChallengeEvent.REJECTED: "the issuer says that it is not, or that the buyer has refused",
        ChallengeEvent.EXPIRED: "the buyer has not come back within 15 minutes",
        ChallengeEvent.OVERTAKEN: "cancel, a new confirm, or another amount, currency or card has moved the payment on",
    },
    RefundEvent: {
        RefundEvent.PAID_BACK: "the PSP has given the money back",
        RefundEvent.DECLINED: "the PSP refuses; the reserved money returns to the merchant",
        RefundEvent.TRIED_AGAIN: "the attempt was not sent, or is undone; the next one is on the schedule",
        RefundEvent.WITHDRAWN: "the merchant cancels it while it waits for money",
        RefundEvent.RETURNED: "the money came back after it had been paid",
        RefundEvent.FOUND: "the PSP had paid it all the same, and the charge still had room for it",
    },
    SessionEvent: {
        SessionEvent.ORDER_PLACED: "the buyer submits the page for the first time: the session's one PaymentIntent is made",
        SessionEvent.PAID: "its payment has succeeded",
        SessionEvent.AUTHORIZED: "its payment is authorized (manual capture); `payment_status` stays `unpaid`",
        SessionEvent.CAPTURED: "the authorized payment is captured; `payment_status` becomes `paid`",
        SessionEvent.EXPIRED: "the merchant expires it, or its time has passed while nothing was under way; its payment is canceled",
    },
}

HEAD: Final = """\
# States

Drawn from the tables in [states.py](../src/guilder/payments/states.py) by [generate.py](generate.py); do not edit. A move
that is not in a table raises `InvariantBroken`, and SQL repeats the guard: a commit names the state that it was decided on
and finds no row when that has moved on. What each outcome makes of a payment is in
[settle.py](../src/guilder/payments/settle.py), what comes next for an open attempt in
[resume.py](../src/guilder/payments/resume.py).
"""

PAYMENT_TEXT: Final = """\
What a PaymentIntent's `status` shows. `processing` lasts while an operation is under way at the PSP, or in doubt; nothing
but an outcome ends it.
"""

ATTEMPT_TEXT: Final = """\
One try of one operation (authenticate, purchase, authorize, capture, void, refund) at a PSP. While it is open its state stands in
`attempt_open`, afterwards in `attempt`. A late approval of an attempt that is `reversing` is noted on it and moves nothing.
"""

CHALLENGE_TEXT: Final = """\
A buyer who was sent to the issuer of the card. The payment is `requires_action` and holds no slot. What the issuer says after
the challenge has ended is kept on it and moves nothing ([challenge.py](../src/guilder/payments/challenge.py)).
"""

REFUND_TEXT: Final = """\
What a Refund's `status` shows. It is `pending` while it waits for money, is under way, or is in doubt.
"""

SESSION_TEXT: Final = """\
What a Checkout Session's `status` shows ([orders/states.py](../src/guilder/orders/states.py)). A commit that ends it cancels its
payment too; while an attempt of that is open, what comes of it decides first. News of the payment comes by the log
([attend.py](../src/guilder/orders/attend.py)), and the page looks for itself before it shows anything.
"""

OTHERS: Final = """\
## Other states in the database

- `attempt_open.state` holds `created`, `in_doubt`, `awaiting_buyer` and `reversing` as above, and `recheck`: an undone attempt is asked
  about again, in a slot of its own, after 1 minute, 15 minutes and 24 hours ([schedule.py](../src/guilder/payments/schedule.py)). A
  purchase, an authorization or a capture that is found then is `reversing` in that slot until the reversal is acknowledged, and
  asked about for the rest of the schedule ([recheck.py](../src/guilder/payments/recheck.py)). The same state, in a slot of its
  own, says that the issuer is being asked what came of a challenge, or that a refund which was in doubt may have been paid twice.
- `dead_letter.state` is `open` until a person has looked, then `replayed` or `discarded`. Until then the key of its entry
  stays closed ([consume.py](../src/guilder/log/consume.py)).
- `webhook_endpoint.state` is `enabled`, `disabled` (by the merchant, or by us: `disabled_reason`) or `deleted`; a deleted endpoint
  does not exist for the API, its deliveries still do.
- `webhook_delivery.state` is `pending` from its writing on, through every try that fails, until it is `delivered`, or `exhausted`
  when its schedule has run out, or `canceled` because its endpoint was deleted. A retry by hand makes any of the three `pending`
  again, as long as the endpoint is enabled ([rules.py](../src/guilder/webhooks/rules.py)).
"""


def states() -> str:
    """docs/states.md."""
    parts = [
        HEAD,
        *_machine("Payment", PAYMENT_TEXT, PAYMENT, (_P.REQUIRES_PAYMENT_METHOD, _P.REQUIRES_CONFIRMATION)),
        *_machine("Attempt", ATTEMPT_TEXT, ATTEMPT, (AttemptState.CREATED,)),
        *_machine("Challenge", CHALLENGE_TEXT, CHALLENGE, (ChallengeState.OPEN,)),
        *_machine("Refund", REFUND_TEXT, REFUND, (RefundState.PENDING,)),
        *_machine("Checkout Session", SESSION_TEXT, SESSION, (SessionState.OPEN,)),
        OTHERS,
    ]
    return "\n".join(parts)


def _machine(name: str, text: str, moves: Moves, starts: Sequence[StrEnum]) -> Iterator[str]:
    """One table as prose, a picture, and the list of its events."""
    yield f"## {name}\n\n{text}"
    yield "```mermaid\nstateDiagram-v2"
    yield from (f"    [*] --> {state}" for state in starts)
    for before, by_event in moves.items():
        together: dict[StrEnum, list[str]] = {}
        for event, after in by_event.items():
            together.setdefault(after, []).append(event)
        yield from (f"    {before} --> {after}: {', '.join(events)}" for after, events in together.items())
    yield from (f"    {state} --> [*]" for state, by_event in moves.items() if not by_event)
    yield "```\n"
    yield "| event | means | moves |\n|---|---|---|"
    kind = next(type(event) for by_event in moves.values() for event in by_event)
    for event, meaning in MEANINGS[kind].items():
        pairs = [f"`{before}` to `{by_event[event]}`" for before, by_event in moves.items() if event in by_event]
        yield f"| `{event}` | {meaning} | {', '.join(pairs)} |"
    final = ", ".join(f"`{state}`" for state, by_event in moves.items() if not by_event)
    yield f"\nFinal: {final}.\n"


def openapi() -> bytes:
    """docs/openapi.json, as the API serves it at /openapi.json, in lines for people."""
    return msgspec.json.format(document(registry()), indent=1) + b"\n"


def main() -> None:
    """Write both."""
    for events, meanings in MEANINGS.items():
        without = set(events) - set(meanings)
        if without:
            raise SystemExit(f"docs/generate.py has no words for {', '.join(sorted(without))}")
    (DOCS / "states.md").write_text(states(), encoding="utf-8")
    (DOCS / "openapi.json").write_bytes(openapi())
    print("wrote docs/states.md and docs/openapi.json")


if __name__ == "__main__":
    main()
