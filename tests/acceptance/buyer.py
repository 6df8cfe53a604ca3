"""A buyer at the payment page, by plain HTTP: reads the form as a browser would, fills it in, and sends it."""

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from payments_system import SOCKET_SECONDS, Shop, wait

from payment_page import PAYS, Seen, filled

CHALLENGED = "4000000000003220"
DECLINED = "4000000000000002"
NO_FUNDS = "4000000000009995"


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


def browse(url: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Status, Location and body at an address; repeated while nobody is there."""
    parts = urlsplit(url)

    def fetched() -> tuple[int, str, str] | None:
        connection = http.client.HTTPConnection(parts.netloc, timeout=SOCKET_SECONDS)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request("POST" if form else "GET", parts.path, urlencode(form) if form else None, headers)
            answer = connection.getresponse()
            return None if answer.status == 503 else (answer.status, answer.getheader("Location") or "", answer.read().decode())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    return wait(fetched, f"{url} answers")


def at_bank(url: str, answer: str = "pass") -> str:
    """The buyer goes to his bank and answers; returns where he is sent back to."""
    status, bank, _ = browse(url)
    assert status == 303
    status, back, _ = browse(bank, {"answer": answer})
    assert status == 303
    return back


def come_back(url: str) -> str:
    """The buyer follows the way back, and the page that asks again by itself, to its end; returns where that is."""

    def ended() -> str | None:
        status, location, body = browse(url)
        return location if status == 303 and "pending" not in location else body if "refresh" not in body and status == 200 else None

    return wait(ended, "the buyer is back at the shop")


def redirect_status(location: str) -> str:
    """What the shop is told."""
    return parse_qs(urlsplit(location).query)["redirect_status"][0]


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
