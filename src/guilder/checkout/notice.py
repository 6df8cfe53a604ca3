"""Pages with no order on them: a buyer on the way to the bank and back, and what has no session that we could show."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from guilder.challenge import Leads, Tells
from guilder.checkout import colors, money
from guilder.checkout.http import page, redirect
from guilder.checkout.languages import LANGUAGES
from guilder.checkout.services import Services
from guilder.checkout.show import declined, page_path
from guilder.http_server import Outgoing
from guilder.payments.model import Payment
from guilder.payments.states import PaymentState

# What a browser is told to wait when we cannot serve.
RETRY_AFTER_SECONDS: Final = 2


def notice(services: Services, kind: str, status: int, tongue: str, *, look: str | None = None, again: str | None = None) -> Outgoing:
    """Nothing is there, or nothing can be said now.

    Args:
        kind: names the texts.
        look: an address at which the buyer sees how it stands.
        again: an address that the page loads by itself after a moment.
    """
    texts = LANGUAGES[tongue].texts
    more = [(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)] if status == 503 else []
    body = _html(
        services, tongue, {"kind": kind, "title": texts[f"{kind}_title"], "text": texts[f"{kind}_text"], "again": again},
        link=(look, texts["look"]) if look is not None else None,
    )  # fmt: skip
    return page(body, status=status, https=services.https, language=tongue, more=more)


async def on_the_way(services: Services, step: Leads | Tells, path: str, tongue: str) -> Outgoing:
    """The answer to a buyer on the way to the bank and back. Who comes back to an order unanswered may choose: bank or another card."""
    if isinstance(step, Leads):
        return redirect(step.url, https=services.https)
    facts = step.payment.facts
    if step.news == "unanswered" and facts.checkout_session is not None:
        return redirect(page_path(facts.checkout_session), https=services.https)
    brand = await services.merchants.brand(step.payment.account)
    texts = LANGUAGES[tongue].texts
    title, text = _words(step, brand.name, tongue)
    here = f"{path}?{urlencode({'lang': tongue})}"
    values = {
        "kind": "action" if step.there else step.news, "title": title, "text": text, "merchant": brand.name,
        "again": here if step.news == "waiting" else None, "testmode": not facts.livemode,
        "languages": [(tag, one.name, f"{path}?{urlencode({'lang': tag})}") for tag, one in LANGUAGES.items()],
    }  # fmt: skip
    links = {
        "unanswered": (step.there, texts["action_go"]), "elsewhere": (step.there, texts["elsewhere_go"]),
        "waiting": (here, texts["refresh"]),
    }  # fmt: skip
    body = _html(services, tongue, values, color=brand.color, link=links.get(step.news))
    return page(body, https=services.https, language=tongue)


def _words(step: Tells, merchant: str, tongue: str) -> tuple[str, str]:
    """Title and text: how the payment stands, and what the buyer can do about it."""
    texts, facts = LANGUAGES[tongue].texts, step.payment.facts
    amount = money.shown(facts.amount, facts.currency, tongue)
    match step.news:
        case "unanswered" | "elsewhere":
            return texts[f"{step.news}_title"], texts[f"{step.news}_text"].format(merchant=merchant, amount=amount)
        case "waiting":
            return texts["waiting_title"], texts["waiting_text"]
        case "paid":
            return texts["paid_title"], texts["way_paid_text"].format(merchant=merchant, amount=amount)
        case "failed":
            return _failed(step.payment, texts, merchant)


def _failed(payment: Payment, texts: Mapping[str, str], merchant: str) -> tuple[str, str]:
    if payment.facts.status == PaymentState.CANCELED:
        return texts["canceled_title"], texts["canceled_text"].format(merchant=merchant)
    error = payment.facts.last_payment_error
    reason = [] if error is None else [texts[declined(error)[1]]]
    return texts["declined_title"], " ".join([*reason, texts["way_failed_text"].format(merchant=merchant)])


def _html(
    services: Services, tongue: str, values: Mapping[str, Any], *, color: str | None = None, link: tuple[str, str] | None,
) -> bytes:  # fmt: skip
    usual: dict[str, Any] = {"t": LANGUAGES[tongue].texts, "language": tongue, "merchant": None, "testmode": False, "languages": []}
    brand_css = f"/brand/{(color or colors.USUAL).removeprefix('#')}.css"
    return services.assets.render("notice.html", {**usual, **values, "link": link, "brand_css": brand_css})
