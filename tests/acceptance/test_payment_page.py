"""The payment page by raw form posts, and its Checkout Session as the merchant sees it: one order, one payment, one charge."""

import json
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import stripe
from buyer import DECLINED, NO_FUNDS, asked, at_bank, bought, charges_of, come_back, events_of, fetch, session_of
from canary import Canary, places
from payments_system import Answer, Shop, running_shop, wait

from guilder.demo.shop import ADDRESSES
from payment_page import PAYS, filled

pytestmark = pytest.mark.slow

PAGE_BYTES_MAX = 60_000
# Pays without an authentication where nobody asks for one.
OPTIONAL = "4000000000003055"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system for all of these orders."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(autouse=True)
def _healthy(shop: Shop) -> Iterator[None]:
    yield
    shop.no_faults()


def test_an_order_is_paid_and_the_merchant_is_told_once(shop: Shop) -> None:
    """POST, see there by GET, and the session is complete before the buyer is back at the shop."""
    session, answer = bought(shop)
    assert answer.status == 303
    assert answer.headers["location"].startswith(f"/c/{session['id']}?")
    seen = fetch(session["url"])
    assert seen.title == "Payment complete"
    assert f"thanks?session={session['id']}" in seen.html
    paid = session_of(shop, session["id"])
    assert (paid["status"], paid["payment_status"], paid["url"]) == ("complete", "paid", None)
    assert paid["payment_intent"]["amount_received"] == paid["amount_total"] == 4299
    assert paid["customer_details"]["email"] == "ada@example.com"
    assert events_of(shop, session["id"]) == ["checkout.session.completed"]


def test_the_payment_event_is_stored_before_anything_is_charged(shop: Shop) -> None:
    """The PaymentIntent is announced in a commit of its own; what becomes of it comes later."""
    session, _ = bought(shop)
    payment = session_of(shop, session["id"])["payment_intent"]["id"]
    found = shop.get("/v1/events?limit=100")["data"]
    types = [event["type"] for event in found if event["data"]["object"].get("id") == payment]
    assert types == ["payment_intent.succeeded", "payment_intent.created"]


def test_a_declined_buyer_is_told_and_tries_again(shop: Shop) -> None:
    """What was typed stands there again, save the card; the same payment takes the next card."""
    session, answer = bought(shop, NO_FUNDS)
    assert answer.status == 303
    seen = fetch(session["url"])
    assert "not enough money" in seen.alert
    assert 'value="ada@example.com"' in seen.html and NO_FUNDS[-8:] not in seen.html
    fetch(session["url"], filled(seen))
    assert charges_of(shop, session["id"]) == ["succeeded", "failed"]
    assert session_of(shop, session["id"])["status"] == "complete"


def test_a_double_click_is_one_charge(shop: Shop) -> None:
    """The same form eight times at once: one payment, one charge."""
    session = asked(shop)
    form = filled(fetch(session["url"]))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: fetch(session["url"], form), range(8)))
    assert {answer.status for answer in answers} == {303}
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_a_form_of_before_charges_nothing(shop: Shop) -> None:
    """Back, reload and a second tab send an old number: the present state is shown."""
    session, _ = bought(shop, DECLINED)
    first = fetch(session["url"])
    fetch(session["url"], filled(first, DECLINED))
    old = fetch(session["url"], filled(first))
    assert old.status == 303
    assert charges_of(shop, session["id"]) == ["failed", "failed"]


def test_a_paid_page_takes_no_second_payment(shop: Shop) -> None:
    """Whatever is sent after success, nothing is charged."""
    session = asked(shop)
    form = filled(fetch(session["url"]))
    fetch(session["url"], form)
    for number in ("1", "2", "3"):
        assert fetch(session["url"], form | {"try": number}).status in (303, 403)
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_a_wrong_form_is_shown_again_with_what_is_wrong(shop: Shop) -> None:
    """422, each problem beside its field, and never the card number or the CVC."""
    session = asked(shop)
    form = filled(fetch(session["url"]), "4242424242424241", email="ada@", expiry="13/34", cvc="9876", name="")
    seen = fetch(session["url"], form)
    assert seen.status == 422
    for field in ("email", "number", "expiry", "cvc", "name"):
        assert f'id="{field}-problem"' in seen.html
    assert 'value="ada@"' in seen.html
    assert "4242424242424241" not in seen.html and "9876" not in seen.html
    assert session_of(shop, session["id"])["payment_intent"] is None


def test_a_form_that_we_did_not_make_is_not_taken(shop: Shop) -> None:
    """A token that is wrong, or another site as the sender."""
    session = asked(shop)
    form = filled(fetch(session["url"]))
    assert fetch(session["url"], form | {"token": "0" * 32}).status == 403
    assert fetch(session["url"], form, Sec_Fetch_Site="cross-site").status == 403
    assert session_of(shop, session["id"])["payment_intent"] is None


def test_an_expired_session_takes_no_payment(shop: Shop) -> None:
    """Expired by the merchant: a form that was open meets a page that says so, and its payment is canceled."""
    session, _ = bought(shop, DECLINED)
    form = filled(fetch(session["url"]))
    answer = shop.insist("POST", f"/v1/checkout/sessions/{session['id']}/expire")
    assert answer.body["status"] == "expired"
    assert fetch(session["url"], form).status == 303
    assert fetch(session["url"]).title == "This page has expired"
    ended = session_of(shop, session["id"])
    assert ended["payment_intent"]["status"] == "canceled"
    assert charges_of(shop, session["id"]) == ["failed"]
    assert events_of(shop, session["id"]) == ["checkout.session.expired"]


def test_an_open_attempt_keeps_the_session_from_expiring(shop: Shop) -> None:
    """409 while the bank is asked; then the order is paid."""
    shop.fault("late_answer", operation="purchase", delay_ms=4_000, count=1)
    session = asked(shop)
    form = filled(fetch(session["url"]))
    with ThreadPoolExecutor(1) as threads:
        paying = threads.submit(fetch, session["url"], form)
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE sender IS NOT NULL AND state = 'created'"), "the bank is asked")
        answer = shop.request("POST", f"/v1/checkout/sessions/{session['id']}/expire")
        assert (answer.status, answer.body["error"]["code"]) == (409, "lock_timeout")
        assert fetch(session["url"]).title == "Checking with your bank"
        assert paying.result().status == 303
    assert session_of(shop, session["id"])["status"] == "complete"


def test_a_doubtful_payment_says_so_and_charges_once(shop: Shop) -> None:
    """The answer is lost: the page is checking, a second submit changes nothing, the session cannot be expired, then it is paid."""
    shop.fault("lost_answer", operation="purchase", count=1)
    closed = shop.fault("close", operation="query")
    session = asked(shop)
    form = filled(fetch(session["url"]))
    with ThreadPoolExecutor(1) as threads:
        paying = threads.submit(fetch, session["url"], form)
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE state = 'in_doubt'"), "the payment is in doubt")
        seen = fetch(session["url"])
        assert seen.title == "Checking with your bank"
        assert 'http-equiv="refresh"' in seen.html
        fetch(session["url"], form)
        shop.no_fault(closed)
        paying.result()
    wait(lambda: session_of(shop, session["id"])["status"] == "complete", "the bank has been asked")
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_the_session_is_completed_though_nobody_looks(shop: Shop) -> None:
    """The buyer closes the browser and the page's process dies: the worker hears of the payment by the log."""
    shop.fault("late_answer", operation="purchase", delay_ms=3_000, count=1)
    session = asked(shop)
    form = filled(fetch(session["url"]))
    with ThreadPoolExecutor(1) as threads:
        paying = threads.submit(fetch, session["url"], form)
        wait(lambda: shop.rows("SELECT 1 FROM attempt_open WHERE state <> 'recheck'"), "the payment is accepted")
        shop.kill("checkout")
        assert paying.exception() is not None
    wait(lambda: session_of(shop, session["id"])["status"] == "complete", "the session is complete")
    assert events_of(shop, session["id"]) == ["checkout.session.completed"]
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_an_authorized_order_is_complete_and_unpaid_until_it_is_captured(shop: Shop) -> None:
    """Manual capture; the capture makes it paid without a second `completed`."""
    session, _ = bought(shop, payment_intent_data={"capture_method": "manual"})
    held = session_of(shop, session["id"])
    assert (held["status"], held["payment_status"]) == ("complete", "unpaid")
    shop.insist("POST", f"/v1/payment_intents/{held['payment_intent']['id']}/capture")
    wait(lambda: session_of(shop, session["id"])["payment_status"] == "paid", "the session is paid")
    assert events_of(shop, session["id"]) == ["checkout.session.completed"]


def test_only_the_session_may_confirm_change_and_give_up_its_payment(shop: Shop) -> None:
    """The API refuses by name what would bypass the page; metadata may change."""
    session, _ = bought(shop, DECLINED)
    path = f"/v1/payment_intents/{session_of(shop, session['id'])['payment_intent']['id']}"
    for verb, params in (("/confirm", {"payment_method": "pm_card_visa"}), ("/cancel", {}), ("", {"amount": 100})):
        answer = shop.insist("POST", path + verb, params)
        assert (answer.status, answer.body["error"]["code"]) == (400, "payment_intent_unexpected_state"), verb
    assert shop.insist("POST", path, {"metadata": {"a": "b"}}).status == 200


@pytest.mark.parametrize("wish", ["any", "challenge", "automatic"])
def test_the_issuer_is_asked_as_the_session_says(shop: Shop, wish: str) -> None:
    """A card that pays without is challenged on demand, and the charge bears the proof."""
    session, _ = bought(shop, OPTIONAL, payment_method_options={"card": {"request_three_d_secure": wish}})
    if wish != "automatic":
        come_back(at_bank(fetch(session["url"]).bank))
    assert fetch(session["url"]).title == "Payment complete"
    assert session_of(shop, session["id"])["payment_status"] == "paid"
    payment = shop.get(f"/v1/payment_intents/{session_of(shop, session['id'])['payment_intent']['id']}?expand[]=latest_charge")
    assert (payment["latest_charge"]["payment_method_details"]["card"]["three_d_secure"] is not None) is (wish != "automatic")


def test_a_card_is_kept_for_a_customer_by_the_merchant_alone(shop: Shop) -> None:
    """`setup_future_usage` attaches nothing; who attaches the card that has paid is paid with it again, without the buyer."""
    customer = shop.insist("POST", "/v1/customers", {"email": "ada@example.com"}).body["id"]
    session, _ = bought(shop, customer=customer, payment_intent_data={"setup_future_usage": "off_session"})
    payment = session_of(shop, session["id"])["payment_intent"]
    assert (payment["status"], payment["customer"], payment["setup_future_usage"]) == ("succeeded", customer, "off_session")
    method = payment["payment_method"]
    assert shop.get(f"/v1/payment_methods/{method}")["customer"] is None
    assert shop.insist("POST", f"/v1/payment_methods/{method}/attach", {"customer": customer}).status == 200
    again = shop.pay(customer=customer, payment_method=method, off_session=True).body
    assert again["status"] == "succeeded"


def test_whoever_is_declined_too_often_waits(shop: Shop) -> None:
    """429 with Retry-After and a clear text, and nothing is sent to the bank."""
    session = asked(shop)
    for _ in range(8):
        assert fetch(session["url"], filled(fetch(session["url"]), DECLINED)).status == 303
    seen = fetch(session["url"], filled(fetch(session["url"])))
    assert seen.status == 429
    assert 0 < int(seen.headers["retry-after"]) <= 600
    assert "Too many tries" in seen.alert
    assert charges_of(shop, session["id"]) == ["failed"] * 8


def test_the_page_speaks_the_buyers_language(shop: Shop) -> None:
    """By the browser, the merchant, or the buyer's own choice, which counts most; amounts too."""
    url = asked(shop)["url"]
    german = fetch(url, Accept_Language="fr, de-AT;q=0.9, en;q=0.5")
    assert 'lang="de"' in german.html and "42,99\u00a0€ bezahlen" in german.html
    assert "Pay €42.99" in fetch(f"{url}?lang=en", Accept_Language="de").html
    assert "42,99\u00a0€" in fetch(asked(shop, locale="de")["url"], Accept_Language="en").html
    assert "Pay €42.99" in fetch(url, Accept_Language="sv").html


def test_the_page_is_small_and_locked_up(shop: Shop) -> None:
    """With everything that it loads below 60 kB; nothing from elsewhere, nothing inline, no cookie, not kept, in nobody's frame."""
    session = asked(shop)
    seen = fetch(session["url"])
    origin = session["url"].partition("/c/")[0]
    paths = {path.partition('"')[0] for path in seen.html.replace("href=", "src=").split('src="')[1:]}
    files = [fetch(origin + path) for path in paths if path.startswith(("/static/", "/brand/"))]
    files.append(fetch(origin + next(one.html for one in files if "cards." in one.html).partition("url(")[2].partition(")")[0]))
    assert all(one.status == 200 for one in files)
    assert len(seen.html) + sum(len(one.html) for one in files) < PAGE_BYTES_MAX
    policy = seen.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert seen.headers["cache-control"] == "no-store"
    assert not {"set-cookie", "strict-transport-security"} & seen.headers.keys()
    assert "<style" not in seen.html and " style=" not in seen.html and " onclick" not in seen.html
    assert not [path for path in paths if path.startswith(("http", "//")) and "127.0.0.1:9/" not in path]


def test_what_is_not_there_is_a_page_too(shop: Shop) -> None:
    """An unknown session, a wrong path, another method."""
    origin = asked(shop)["url"].partition("/c/")[0]
    for path in ("/c/cs_test_000000000000000000000000", "/", "/c/", "/c/../etc/passwd", "/static/none.css", "/c/%00"):
        seen = fetch(origin + path)
        assert (seen.status, seen.title) == (404, "There is no such page"), path


def test_a_look_changes_by_what_is_named_and_is_taken_away_by_name(shop: Shop, tmp_path: Path) -> None:
    """What is not named stays; the command alone shows it; an option and its opposite are refused together."""

    def look(*options: str) -> dict[str, object]:
        return json.loads(shop.command("brand", *options, "--json").stdout)

    logo = tmp_path / "logo.png"
    logo.write_bytes(b"\x89PNG\r\n\x1a\n")
    usual = {"name": "Sandbox", "color": None, "logo_type": None, "logo_bytes": None}
    whole = {"name": "Coffee & Co", "color": "#0f6b4f", "logo_type": "image/png", "logo_bytes": 8}
    assert look() == usual
    assert look("--name", "Coffee & Co", "--logo", str(logo)) == whole | {"color": None}
    assert look("--color", "#0f6b4f") == whole == look()
    assert shop.command("brand").stdout.split()[4:] == ["color", "#0f6b4f", "logo", "image/png,", "8", "bytes"]
    assert look("--no-logo") == whole | {"logo_type": None, "logo_bytes": None}
    refused = shop.command("brand", "--name", "Other", "--no-name")
    assert refused.returncode != 0 and "--no-name" in refused.stderr
    assert look("--no-name", "--no-color") == usual


def test_a_customers_mail_address_stands_in_the_form(shop: Shop) -> None:
    """As the customer has it now, and not to be changed there; what no form could hold, and a deleted customer's, is left to the buyer."""
    customer = shop.insist("POST", "/v1/customers", {"email": "ada@example.com"}).body["id"]
    url = asked(shop, customer=customer)["url"]

    def field() -> str:
        return re.search(r'<input id="email"[^>]*>', fetch(url).html)[0]

    assert 'value="ada@example.com" readonly' in field()
    shop.insist("POST", f"/v1/customers/{customer}", {"email": "augusta@example.com"})
    assert 'value="augusta@example.com" readonly' in field()
    shop.insist("POST", f"/v1/customers/{customer}", {"email": ""})
    assert 'value=""' in field() and "readonly" not in field()
    shop.insist("POST", f"/v1/customers/{customer}", {"email": f"{'a' * 200}@example.com"})
    assert 'value=""' in field() and "readonly" not in field()
    shop.insist("POST", f"/v1/customers/{customer}", {"email": "ada@example.com"})
    assert fetch(url, filled(fetch(url), DECLINED)).status == 303
    assert 'value="ada@example.com" readonly' in field()
    shop.insist("DELETE", f"/v1/customers/{customer}")
    assert 'value="ada@example.com"' in field() and "readonly" not in field()


def test_names_are_shown_as_text(shop: Shop) -> None:
    """Whatever a merchant or a buyer writes cannot become markup."""
    line = {"price_data": {"currency": "eur", "unit_amount": 100, "product_data": {"name": '"><script>alert(1)</script>'}}}
    session = asked(shop, line_items=[line])
    seen = fetch(session["url"], filled(fetch(session["url"]), name='"><script>alert(2)</script>', cvc=""))
    assert "<script>alert" not in seen.html
    assert "&lt;script&gt;alert(1)" in seen.html and "&lt;script&gt;alert(2)" in seen.html


def test_a_card_number_is_in_the_vault_and_nowhere_else(shop: Shop) -> None:
    """Typed at the page and at a till, sent to the API, sent where none belongs, while all goes well and while the bank misbehaves.

    In no file of the database, WAL and log included, in no log of ours, in no row of any table; nor is the CVC.
    """
    number = json.loads(shop.bank("POST", "/accounts", {"bin": f"42{secrets.randbelow(10**6):06d}", "count": 1}))["numbers"][0]
    canary = Canary(number, "739")
    session = asked(shop, client_reference_id="seen-everywhere")
    form = filled(fetch(session["url"]), number, cvc="739")
    assert not canary.found_in(fetch(session["url"], form | {"expiry": "13 / 34"}).html.encode())
    assert not canary.found_in(fetch(session["url"], form | {"email": number, "name": number}).html.encode())
    shop.fault("malformed", operation="purchase", card=number, count=1)
    shop.fault("lost_answer", operation="query", card=number, count=1)
    fetch(session["url"], form)
    wait(lambda: fetch(session["url"]).title == "Payment complete", "the order is paid")
    typed = {"type": "card", "card": {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "739"}}
    paid = shop.pay(payment_method=None, payment_method_data=typed)
    assert paid.status == 200
    wrong = [shop.pay(payment_method=number), shop.insist("GET", f"/v1/payment_methods/{number}"), shop.insist("GET", f"/v1/charges?payment_intent={number}")]
    answers = [paid, *wrong, till(shop, number)]
    assert [answer.status for answer in wrong] == [400, 404, 400] and not any(canary.found_in(answer.raw) for answer in answers)
    assert places(shop, b"seen-everywhere") >= {"base", "pg_wal", "public.checkout_session"}
    assert canary.traces(shop) == []


def till(shop: Shop, number: str) -> Answer:
    """A payment with this card at a reader; the reader's answer."""
    reader = shop.insist("POST", "/v1/terminal/readers", {"registration_code": "simulated-wpe"}).body["id"]
    payment = shop.insist("POST", "/v1/payment_intents", {"amount": 500, "currency": "eur", "payment_method_types": ["card_present"]})
    path = f"/v1/terminal/readers/{reader}/process_payment_intent"
    assert shop.insist("POST", path, {"payment_intent": payment.body["id"]}).status == 200
    path = f"/v1/test_helpers/terminal/readers/{reader}/present_payment_method"
    held = shop.insist("POST", path, {"type": "card_present", "card_present": {"number": number}})
    assert held.body["action"]["status"] == "succeeded"
    return held


def test_the_official_sdk_makes_finds_and_expires_sessions(shop: Shop) -> None:
    """stripe-python unmodified: typed objects, expanded payment, line items that page by themselves."""
    client = stripe.StripeClient(shop.line["secret_key"], base_addresses=dict.fromkeys(ADDRESSES, shop.line["api"]))
    price = {"currency": "eur", "unit_amount": 500, "product_data": {"name": "Tea"}}
    made = client.v1.checkout.sessions.create({
        "mode": "payment", "success_url": "http://127.0.0.1:9/thanks", "line_items": [{"price_data": price, "quantity": 1}] * 12,
    })  # fmt: skip
    assert isinstance(made, stripe.checkout.Session) and made.amount_total == 6000
    items = list(client.v1.checkout.sessions.line_items.list(made.id, {"limit": 5}).auto_paging_iter())
    assert [item.amount_total for item in items] == [500] * 12
    fetch(made.url, filled(fetch(made.url), DECLINED))
    found = client.v1.checkout.sessions.retrieve(made.id, {"expand": ["payment_intent"]})
    assert found.payment_intent.status == "requires_payment_method"
    assert client.v1.checkout.sessions.expire(made.id).status == "expired"
    assert made.id in {one.id for one in client.v1.checkout.sessions.list({"status": "expired"})}


def test_a_session_that_nobody_pays_expires_by_itself(shop: Shop) -> None:
    """The worker ends it, with its payment, when its time has passed; the page says so at once."""
    untouched = asked(shop)
    tried, _ = bought(shop, DECLINED)
    assert shop.command("clock", "advance", "24h").returncode == 0
    assert fetch(untouched["url"]).title == "This page has expired"
    for session in (untouched, tried):
        wait(lambda session=session: session_of(shop, session["id"])["status"] == "expired", "the session has expired")
        assert events_of(shop, session["id"]) == ["checkout.session.expired"]
    assert session_of(shop, tried["id"])["payment_intent"]["status"] == "canceled"


def test_a_payment_under_way_at_the_end_decides_first(shop: Shop) -> None:
    """Its time passes while the bank is asked: found approved, the order is complete; found undone, it has expired."""
    shop.fault("lost_answer", operation="purchase", count=2)
    orders = [(asked(shop), PAYS, "complete", ["succeeded"]), (asked(shop), DECLINED, "expired", [])]
    forms = [filled(fetch(session["url"]), number) for session, number, _, _ in orders]
    with ThreadPoolExecutor(len(orders)) as threads:
        paying = [threads.submit(fetch, session["url"], form) for (session, *_), form in zip(orders, forms, strict=True)]
        wait(lambda: len(shop.rows("SELECT 1 FROM attempt_open WHERE sender IS NOT NULL AND state = 'created'")) == len(orders), "the bank is asked")
        assert shop.command("clock", "advance", "24h").returncode == 0
        assert [fetch(session["url"]).title for session, *_ in orders] == ["Checking with your bank"] * len(orders)
        for one in paying:
            one.result()
    for session, _, status, kept in orders:
        wait(lambda session=session, status=status: session_of(shop, session["id"])["status"] == status, status)
        assert charges_of(shop, session["id"]) == kept
