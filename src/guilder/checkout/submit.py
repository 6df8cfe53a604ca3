"""The buyer has pressed the button: check, pay once, and see there (303). An old form charges nothing."""

from collections.abc import Callable

from msgspec.structs import replace

from guilder.checkout.fields import Form, read_form
from guilder.checkout.http import BODY_BYTES_MAX, address_of, page, redirect
from guilder.checkout.services import Services
from guilder.checkout.show import Shown, html, next_step, state_of
from guilder.core.errors import Refusal
from guilder.http_server import Incoming, Outgoing
from guilder.orders import Pay, Standing, pay, stand
from guilder.payments import is_a_decline

LanguageOf = Callable[[Standing, str | None], str]
"""The page's language, by how things stand and what the form says."""


async def submit(services: Services, incoming: Incoming, session: str, language_of: LanguageOf) -> Outgoing | None:
    """Take the form's payment, or show the form again; None when there is no such session.

    Raises Refusal: no form of ours (400, 413). As orders.pay otherwise.
    """
    form = read_form(await incoming.body(BODY_BYTES_MAX), services.clock.now())
    standing = await stand(services.orders, session)
    if standing is None:
        return None
    shown = Shown(language=language_of(standing, form.language), typed=form.typed)
    if _foreign(incoming) or form.token != services.form_token(session, str(form.number)):
        return await _again(services, standing, replace(shown, notice="closed_form"), 403)
    if form.number != standing.number or state_of(standing, services.clock.now(), other_card=True) != "form":
        return _see(services, standing, shown.language)
    if form.problems:
        return await _again(services, standing, replace(shown, problems=form.problems), 422)
    address = address_of(incoming, services.proxies)
    wait = services.velocity.wait_seconds(address, session, livemode=standing.session.facts.livemode)
    if wait:
        return await _again(services, standing, replace(shown, wait=wait), 429)
    return await _pay(services, standing, form, shown, address)


async def _pay(services: Services, standing: Standing, form: Form, shown: Shown, address: str) -> Outgoing:
    session = standing.session.facts
    if form.card is None or form.buyer is None:
        return await _again(services, standing, shown, 422)
    try:
        with services.velocity.trying(address, session.id, livemode=session.livemode):
            after = await pay(services.orders, Pay(session=session.id, number=form.number, card=form.card, buyer=form.buyer))
    except Refusal as refusal:
        if refusal.status == 400:
            used_up = refusal.facts.code == "payment_intent_unexpected_state"
            return await _again(services, standing, replace(shown, notice="used_up" if used_up else "card_unusable"), 422)
        if refusal.facts.type != "card_error":
            raise
        field = {"number": "number", "cvc": "cvc"}.get((refusal.facts.param or "").partition("[")[2].rstrip("]"), "expiry")
        return await _again(services, standing, replace(shown, problems={field: f"{field}_wrong"}), 422)
    error = None if after.payment is None else after.payment.facts.last_payment_error
    if after.number > form.number and error is not None and is_a_decline(error):
        services.velocity.count(address, session.id, livemode=session.livemode)
    return _see(services, after, shown.language)


async def _again(services: Services, standing: Standing, shown: Shown, status: int) -> Outgoing:
    """The page as it stands, with what is wrong."""
    more = [(b"retry-after", b"%d" % shown.wait)] if shown.wait else []
    body = await html(services, standing, replace(shown, other_card=True))
    return page(body, status=status, https=services.https, language=shown.language, more=more)


def _see(services: Services, standing: Standing, language: str) -> Outgoing:
    return redirect(next_step(standing, language), https=services.https)


def _foreign(incoming: Incoming) -> bool:
    """Whether another site has sent the form; browsers say so."""
    return incoming.headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none")
