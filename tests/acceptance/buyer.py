"""A buyer at the payment page, by plain HTTP: reads the form as a browser would, fills it in, and sends it."""

import http.client
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from payments_system import SOCKET_SECONDS, Shop

PAYS = "4242424242424242"
DECLINED = "4000000000000002"
NO_FUNDS = "4000000000009995"


class Seen(NamedTuple):
    """One answer of the page."""

    status: int
    headers: Mapping[str, str]
    html: str

    @property
    def fields(self) -> dict[str, str]:
        """What the form bears besides."""
        return dict(re.findall(r'name="(try|token|lang)" value="([^"]*)"', self.html))

    @property
    def title(self) -> str:
        """The title of a state that is no form."""
        found = re.search(r"<h[12]>(.*?)</h[12]>", self.html)
        return found[1] if found else ""

    @property
    def alert(self) -> str:
        """What stands above the form."""
        found = re.search(r'class="alert"[^>]*>(.*?)</div>', self.html, re.DOTALL)
        return re.sub(r"<[^>]*>", " ", found[1]).strip() if found else ""


def fetch(url: str, form: Mapping[str, str] | None = None, **headers: str) -> Seen:
    """One request of a browser that follows nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=SOCKET_SECONDS)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if form is None:
            connection.request("GET", path, headers=sent)
        else:
            connection.request("POST", path, urlencode(form), {"Content-Type": "application/x-www-form-urlencoded", **sent})
        answer = connection.getresponse()
        return Seen(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def filled(seen: Seen, number: str = PAYS, **changes: str) -> dict[str, str]:
    """The form that was seen, filled in."""
    typed = {
        "email": "ada@example.com", "number": number, "expiry": "12 / 34", "cvc": "123", "name": "Ada Lovelace", "postal_code": "1012 LG",
    }  # fmt: skip
    return seen.fields | typed | changes


def asked(shop: Shop, **changes: Any) -> dict[str, Any]:
    """A new Checkout Session over 42.99 EUR."""
    lines = [
        {"price_data": {"currency": "eur", "unit_amount": 1250, "product_data": {"name": "Coffee"}}, "quantity": 2},
        {"price_data": {"currency": "eur", "unit_amount": 1799, "product_data": {"name": "Dripper"}}},
    ]
    wanted = {
        "mode": "payment", "line_items": lines, "success_url": "http://127.0.0.1:9/thanks?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1:9/cart", "client_reference_id": "order-1042",
    }  # fmt: skip
    answer = shop.insist("POST", "/v1/checkout/sessions", wanted | changes)
    assert answer.status == 200, answer.body
    return answer.body


def bought(shop: Shop, number: str = PAYS, **changes: Any) -> tuple[dict[str, Any], Seen]:
    """A session, and the answer to one submitted form."""
    session = asked(shop, **changes)
    return session, fetch(session["url"], filled(fetch(session["url"]), number))


def session_of(shop: Shop, id_: str) -> dict[str, Any]:
    """The session as the merchant sees it now, with its payment."""
    return shop.get(f"/v1/checkout/sessions/{id_}?expand[]=payment_intent")


def charges_of(shop: Shop, session: str) -> list[str]:
    """The status of each charge of a session's payment, the newest first."""
    payment = shop.get(f"/v1/checkout/sessions/{session}")["payment_intent"]
    return [charge["status"] for charge in shop.get(f"/v1/charges?payment_intent={payment}")["data"]]


def events_of(shop: Shop, session: str) -> list[str]:
    """The types of a session's own events."""
    found = shop.get("/v1/events?type=checkout.session.*&limit=100")["data"]
    return [event["type"] for event in found if event["data"]["object"]["id"] == session]
