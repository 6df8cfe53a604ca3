"""What a buyer is shown: which of the page's states it is, and everything that stands there. Decides nothing about money."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlencode

from msgspec import Struct

from guilder.checkout import colors, money
from guilder.checkout.fields import Typed, is_email
from guilder.checkout.languages import LANGUAGES
from guilder.checkout.services import Services
from guilder.core.clock import SECOND
from guilder.core.errors import ErrorFacts
from guilder.merchants import Brand
from guilder.orders import Standing
from guilder.orders.create import success_url
from guilder.orders.model import Session
from guilder.orders.pay import FROM_BANK
from guilder.orders.states import SessionState
from guilder.payments.states import PaymentState
from guilder.shapes.facts import CheckoutSessionFacts

State = Literal["form", "paid", "waiting", "action", "expired", "canceled"]

# Lines that stand open; the rest opens by a click.
LINES_OPEN: Final = 4

_BUTTONS: Final[Mapping[str | None, str]] = {"book": "book_now", "donate": "donate_now"}
_FIELD_OF: Final[Mapping[str, tuple[str, str]]] = {
    "incorrect_cvc": ("cvc", "declined_cvc"),
    "invalid_cvc": ("cvc", "declined_cvc"),
    "expired_card": ("expiry", "declined_expired"),
    "incorrect_number": ("number", "declined_number"),
    "invalid_number": ("number", "declined_number"),
}
"""Refusals that one field can mend."""
_TEXT_OF: Final[Mapping[str, str]] = {
    "insufficient_funds": "declined_funds",
    "card_velocity_exceeded": "declined_velocity",
    "authentication_required": "declined_authentication",
    "payment_intent_authentication_failure": "declined_authentication",
    "payment_intent_payment_attempt_expired": "declined_unanswered",
    "processing_error": "declined_processing",
}


class Shown(Struct, frozen=True, kw_only=True):
    """What this request wants to see, beside how things stand.

    Args:
        step: what the address says of where the buyer comes from; see `taken_on`.
        other_card: the form, although the bank waits for the buyer.
        typed, problems: of a form that was not sent on.
        notice: a text about what has just happened.
        wait: seconds until the next try is allowed.
    """

    language: str
    step: str | None = None
    other_card: bool = False
    typed: Typed | None = None
    problems: Mapping[str, str] = {}
    notice: str | None = None
    wait: int = 0


def state_of(standing: Standing, now: int, *, other_card: bool = False) -> State:
    """The page's state."""
    facts, payment = standing.session.facts, standing.payment
    status = None if payment is None else PaymentState(payment.facts.status)
    if facts.status == SessionState.COMPLETE or status in (PaymentState.SUCCEEDED, PaymentState.REQUIRES_CAPTURE):
        return "paid"
    if status is PaymentState.PROCESSING:
        return "waiting"
    # What is under way when the time passes decides first (DESIGN section 9).
    if facts.status == SessionState.EXPIRED or now >= facts.expires_at * SECOND:
        return "expired"
    if status is PaymentState.CANCELED:
        return "canceled"
    if status is PaymentState.REQUIRES_ACTION and not other_card:
        return "action"
    return "form"


def taken_on(standing: Standing, state: State, step: str | None) -> bool:
    """Whether the page takes the buyer on by itself: from the submit of the latest try, and from his bank to the shop.

    An address that an earlier try has left in the browser's history stays where it is, so a back button is no trap.
    """
    return state == "paid" if step == FROM_BANK else step == _latest(standing)


def next_step(standing: Standing, language: str) -> str:
    """The address at which whoever has made the latest try sees what came of it, and is taken on."""
    return f"{page_path(standing.session.facts.id)}?{urlencode({'step': _latest(standing), 'lang': language})}"


def _latest(standing: Standing) -> str:
    return str(standing.number - 1)


async def html(services: Services, standing: Standing, shown: Shown) -> bytes:
    """The whole page."""
    session = standing.session
    facts = session.facts
    brand = await services.merchants.brand(session.account)
    state = state_of(standing, services.clock.now(), other_card=shown.other_card)
    known = await _known(services, session, state)
    texts = LANGUAGES[shown.language].texts
    values = {
        **_frame(services, standing, brand, shown, texts),
        "state": state,
        **_order(facts, shown.language, texts),
        **(_form(services, standing, known, shown, texts) if state == "form" else _outcome(standing, known, shown, brand, texts, state)),
    }
    return services.assets.render("form.html" if state == "form" else "state.html", values)


async def _known(services: Services, session: Session, state: State) -> Mapping[str, Any]:
    """What is known of the buyer. Of a customer the form has the mail address, in the place of one that the merchant has given."""
    facts = session.facts
    known = await services.personal.open(session.account, facts.personal, livemode=facts.livemode)
    if state != "form" or facts.customer is None:
        return known
    email = await services.customers.email(session.account, facts.customer, livemode=facts.livemode)
    return known if email is None or not is_email(email) else known | {"customer_email": email}


def _frame(
    services: Services, standing: Standing, brand: Brand, shown: Shown, texts: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """What every state has: merchant, language, the way back."""
    facts = standing.session.facts
    path = page_path(facts.id)
    color = (brand.color or colors.USUAL).removeprefix("#")
    return {
        "t": texts,
        "language": shown.language,
        "languages": [(tag, one.name, f"{path}?{urlencode({'lang': tag})}") for tag, one in LANGUAGES.items()],
        "merchant": brand.name,
        "initial": brand.name[:1].upper(),
        "logo": f"/logo/{facts.id}" if brand.logo else None,
        "brand_css": f"/brand/{color}.css",
        "cancel_url": facts.cancel_url,
        "testmode": not facts.livemode,
        "path": path,
        "here": next_step(standing, shown.language),
        "https": services.https,
    }


def _order(facts: CheckoutSessionFacts, language: str, texts: Mapping[str, str]) -> dict[str, Any]:
    def amount(minor: int) -> str:
        return money.shown(minor, facts.currency, language)

    lines = [
        {
            "name": item.name,
            "description": item.description,
            "amount": amount(item.unit_amount * item.quantity),
            "quantity": texts["quantity"].format(count=item.quantity) if item.quantity > 1 else None,
            "each": texts["each"].format(amount=amount(item.unit_amount)) if item.quantity > 1 else None,
        }
        for item in facts.line_items
    ]
    return {"amount": amount(facts.amount_total), "lines": lines[:LINES_OPEN], "more_lines": lines[LINES_OPEN:]}


def _form(
    services: Services, standing: Standing, known: Mapping[str, Any], shown: Shown, texts: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    facts = standing.session.facts
    problems = dict(shown.problems)
    alert: tuple[str, str | None] | None = (texts["error_title"], None) if problems else None
    error = standing.payment.facts.last_payment_error if standing.payment else None
    if shown.wait:
        alert = (texts["limited_title"], _wait_text(shown.wait, texts))
    elif shown.notice is not None:
        alert = (texts[shown.notice], None)
    elif error is not None and not problems:
        field, text = declined(error)
        alert = (texts["declined_title"], texts[text])
        if field is not None:
            problems[field] = text
    details = known.get("customer_details") or {}
    typed = shown.typed or Typed(
        email=details.get("email") or known.get("customer_email") or "", name=details.get("name") or "",
        postal_code=(details.get("address") or {}).get("postal_code") or "",
    )  # fmt: skip
    order = ("email", "number", "expiry", "cvc", "name", "postal_code")
    return {
        "alert": alert,
        "problems": {name: texts[key] for name, key in problems.items()},
        # Where the buyer goes on; after a refusal that no field is named for, with another card.
        "first_problem": next((name for name in order if name in problems), "number" if alert else None),
        "typed": typed,
        "email_fixed": bool(known.get("customer_email")),
        "try_number": standing.number,
        "token": services.form_token(facts.id, str(standing.number)),
        "button": texts[_BUTTONS.get(facts.submit_type, "pay_now")],
    }


def _wait_text(seconds: int, texts: Mapping[str, str]) -> str:
    if seconds <= 90:
        return texts["limited_seconds"].format(count=seconds)
    return texts["limited_minutes"].format(count=-(-seconds // 60))


def declined(error: ErrorFacts) -> tuple[str | None, str]:
    """The field that can mend it, if any, and the text."""
    for code in (error.decline_code or "", error.code or ""):
        if code in _FIELD_OF:
            return _FIELD_OF[code]
        if code in _TEXT_OF:
            return None, _TEXT_OF[code]
    return None, "declined"


def _outcome(
    standing: Standing, known: Mapping[str, Any], shown: Shown, brand: Brand, texts: Mapping[str, str], state: State,
) -> dict[str, Any]:  # fmt: skip
    """A state that is no form: its words, where it leads, and what it takes the buyer to by itself."""
    facts, payment = standing.session.facts, standing.payment
    forward: str | None = None
    if state == "paid":
        forward = success_url(facts)
    elif state == "action" and payment is not None:
        forward = payment.facts.next_action_url
    rows: Sequence[tuple[str, str]] = ()
    if state == "paid":
        email = (known.get("customer_details") or {}).get("email") or known.get("customer_email")
        charge = payment.charge if payment else None
        card = f"•••• {charge.facts.card.last4}" if charge else None
        named = ((texts["paid_with"], card), (texts["paid_email"], email), (texts["reference"], facts.client_reference_id))
        rows = [(name, value) for name, value in named if value]
    return {
        "title": texts[f"{state}_title"],
        "text": texts[f"{state}_text"].format(merchant=brand.name),
        "rows": rows,
        "forward": forward,
        "auto": forward is not None and taken_on(standing, state, shown.step),
        "waiting": state == "waiting",
    }


def page_path(session: str) -> str:
    """The page's address on its origin."""
    return f"/c/{session}"
