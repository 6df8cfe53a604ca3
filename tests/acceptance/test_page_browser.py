"""The payment page in a real Chromium: what a buyer does, and what they must not be able to do by accident."""

import threading
from collections.abc import Callable, Iterator

import pytest
from buyer import DECLINED, charges_of, fetch, session_of
from chromium import DESKTOP, NARROW, PHONE, complaints_of_axe, fill, order, press
from payments_system import Shop, running_shop
from playwright.sync_api import Page, expect

from payment_page import PAYS, filled

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system for all of these buyers."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_buyer_pays_and_comes_back_to_the_shop(shop: Shop, site: str, visit: Callable[..., Page], viewport: dict[str, int]) -> None:
    """The state after success, then the merchant's site with the session's id."""
    session = order(shop, site)
    page = visit(session["url"], viewport=viewport)
    fill(page)
    press(page)
    expect(page.get_by_role("heading", name="Payment complete")).to_be_visible()
    page.wait_for_url(f"{site}/thanks?session={session['id']}")
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_a_declined_buyer_tries_another_card(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """The alert says what happened, what was typed is there, and the caret waits in the card number."""
    session = order(shop, site)
    page = visit(session["url"])
    fill(page, DECLINED)
    press(page)
    expect(page.get_by_role("alert")).to_contain_text("Your card was not charged")
    expect(page.locator("#number")).to_be_focused()
    expect(page.locator("#email")).to_have_value("ada@example.com")
    expect(page.locator("#number")).to_have_value("")
    fill(page)
    press(page)
    page.wait_for_url(f"{site}/**")
    assert charges_of(shop, session["id"]) == ["succeeded", "failed"]


def test_typing_is_helped(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """The brand by the number, blanks as the card prints them, a date as the card prints it, the right keyboards and autofill."""
    page = visit(order(shop, site)["url"])
    for number, brand, shown in (
        ("5555555555554444", "mastercard", "5555 5555 5555 4444"), ("378282246310005", "amex", "3782 822463 10005"),
        ("4242424242424242", "visa", "4242 4242 4242 4242"), ("30569309025904", "diners", "3056 930902 5904"),
    ):  # fmt: skip
        fill(page, number)
        expect(page.locator("#number")).to_have_value(shown)
        expect(page.locator("#number-box")).to_have_attribute("data-brand", brand)
    expect(page.locator("#expiry")).to_have_value("12 / 34")
    page.locator("#expiry").fill("")
    page.locator("#expiry").press_sequentially("430")
    expect(page.locator("#expiry")).to_have_value("04 / 30")
    for field, keyboard, autofill in (
        ("email", "email", "email"), ("number", "numeric", "cc-number"), ("expiry", "numeric", "cc-exp"), ("cvc", "numeric", "cc-csc"),
    ):  # fmt: skip
        expect(page.locator(f"#{field}")).to_have_attribute("inputmode", keyboard)
        expect(page.locator(f"#{field}")).to_have_attribute("autocomplete", autofill)


def test_a_digit_typed_into_the_middle_stays_there(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """The caret keeps its place although blanks come and go."""
    page = visit(order(shop, site)["url"])
    number = page.locator("#number")
    number.press_sequentially("424242424242424")
    for _ in range(14):
        number.press("ArrowLeft")
    number.press("2")
    number.press("9")
    assert number.input_value().replace(" ", "").index("29") == 4


def test_two_quick_clicks_are_one_payment(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """The second press is stopped in the browser, and would be stopped by the server."""
    session = order(shop, site)
    page = visit(session["url"])
    fill(page)
    page.locator("#pay").dblclick()
    page.wait_for_url(f"{site}/**")
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_two_tabs_are_one_payment(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """The second tab's form is old by the time it is sent: it shows that the order is paid."""
    session = order(shop, site)
    first = visit(session["url"])
    second = visit(session["url"])
    fill(first)
    fill(second)
    press(first)
    first.wait_for_url(f"{site}/**")
    press(second)
    expect(second.get_by_role("heading", name="Payment complete")).to_be_visible()
    assert charges_of(shop, session["id"]) == ["succeeded"]


@pytest.mark.parametrize("declined_before", [False, True], ids=["first_try", "after_a_decline"])
def test_back_and_reload_after_paying_show_that_it_is_paid(
    shop: Shop, site: str, visit: Callable[..., Page], declined_before: bool,
) -> None:  # fmt: skip
    """No form, no second payment, and no page that drives the buyer away again."""
    session = order(shop, site)
    page = visit(session["url"])
    if declined_before:
        fill(page, DECLINED)
        press(page)
        expect(page.get_by_role("alert")).to_be_visible()
    fill(page)
    press(page)
    page.wait_for_url(f"{site}/**")
    page.go_back()
    expect(page.get_by_role("heading", name="Payment complete")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Continue to Sandbox")).to_be_visible()
    assert page.locator("#forward").count() == 0
    assert charges_of(shop, session["id"]) == ["succeeded"] + ["failed"] * declined_before


def test_a_reload_after_a_decline_sends_nothing(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """The answer to the post is an address to see by GET."""
    session = order(shop, site)
    page = visit(session["url"])
    fill(page, DECLINED)
    press(page)
    expect(page.get_by_role("alert")).to_be_visible()
    page.reload()
    page.reload()
    assert charges_of(shop, session["id"]) == ["failed"]


def test_it_works_without_javascript(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """A wrong date is told beside its field; then the order is paid, and the way back is a link and an address that is followed."""
    session = order(shop, site)
    page = visit(session["url"], java_script_enabled=False)
    fill(page, expiry="13 / 34")
    press(page)
    expect(page.locator("#expiry-problem")).to_be_visible()
    expect(page.locator("#expiry")).to_have_attribute("aria-invalid", "true")
    fill(page, expiry="12/34")
    press(page)
    expect(page.get_by_role("heading", name="Payment complete")).to_be_visible()
    page.wait_for_url(f"{site}/**")
    assert charges_of(shop, session["id"]) == ["succeeded"]


def test_german_buyers_read_german(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """By the browser's language; English is one click away, and stays after the form was sent."""
    session = order(shop, site)
    page = visit(session["url"], locale="de-DE")
    expect(page.locator("#pay")).to_have_text("42,99\u00a0€ bezahlen")
    fill(page, DECLINED)
    press(page)
    expect(page.get_by_role("alert")).to_contain_text("Ihre Karte wurde nicht belastet")
    page.get_by_role("link", name="English").click()
    expect(page.locator("#pay")).to_have_text("Pay €42.99")
    fill(page, DECLINED)
    press(page)
    expect(page.get_by_role("alert")).to_contain_text("Your card was not charged")


def test_an_expired_page_says_so_and_leads_back(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """Also when it expires under the buyer's hands."""
    session = order(shop, site)
    page = visit(session["url"])
    fill(page)
    shop.insist("POST", f"/v1/checkout/sessions/{session['id']}/expire")
    press(page)
    expect(page.get_by_role("heading", name="This page has expired")).to_be_visible()
    page.get_by_role("link", name="Back to Sandbox").click()
    assert page.url == f"{site}/cart"
    assert session_of(shop, session["id"])["payment_intent"] is None


def test_while_the_bank_is_asked_the_page_waits_and_goes_on_by_itself(shop: Shop, site: str, visit: Callable[..., Page]) -> None:
    """Looked at from a second window, in which nothing was sent."""
    shop.fault("late_answer", operation="purchase", delay_ms=2500, count=1)
    session = order(shop, site)
    form = filled(fetch(session["url"]))
    paying = threading.Thread(target=fetch, args=(session["url"], form))
    paying.start()
    page = visit(session["url"])
    page.wait_for_function("document.querySelector('.waiting, .paid') || (location.reload(), false)")
    page.wait_for_url(f"{site}/**", timeout=15_000)
    paying.join()
    shop.no_faults()
    assert charges_of(shop, session["id"]) == ["succeeded"]


@pytest.mark.parametrize("viewport", [NARROW, PHONE, DESKTOP], ids=["narrow", "phone", "desktop"])
def test_merchant_and_amount_stay_in_sight(shop: Shop, site: str, visit: Callable[..., Page], viewport: dict[str, int]) -> None:
    """Wherever the buyer has scrolled; and nothing is wider than the screen."""
    page = visit(order(shop, site)["url"], viewport=viewport)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".merchant-name")).to_be_in_viewport()
    amount = page.locator(".bar-amount") if viewport is not DESKTOP else page.locator(".amount")
    expect(amount).to_be_in_viewport()
    expect(amount).to_have_text("€42.99")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("viewport", [NARROW, {"width": 375, "height": 667}, DESKTOP], ids=["narrow", "phone", "desktop"])
def test_the_largest_amount_leaves_the_merchants_name_its_room(shop: Shop, site: str, visit: Callable[..., Page], viewport: dict[str, int]) -> None:
    """One line, whole, before the amount appears in the bar and after; the bar stays as high as it was."""
    line = {"price_data": {"currency": "eur", "unit_amount": 99_999_999, "product_data": {"name": "Everything"}}}
    page = visit(order(shop, site, line_items=[line])["url"], viewport=viewport)
    bar = page.locator(".bar").bounding_box()
    for down in (0, 10_000):
        page.evaluate(f"scrollTo(0, {down})")
        amount = page.locator(".bar-amount" if down and viewport is not DESKTOP else ".amount")
        expect(amount).to_be_in_viewport(ratio=1)
        name = page.locator(".bar .merchant-name")
        assert name.evaluate("name => name.offsetHeight < 24 && name.scrollHeight <= name.offsetHeight && name.scrollWidth <= name.offsetWidth")
        assert page.locator(".bar").bounding_box()["height"] == bar["height"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.needs("axe")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["form", "wrong", "declined", "paid", "expired", "missing"])
def test_axe_finds_nothing(shop: Shop, site: str, visit: Callable[..., Page], state: str, scheme: str) -> None:
    """WCAG 2.2 AA, as far as a program can tell, in every state and both colour schemes."""
    session = order(shop, site)
    address = session["url"] if state != "missing" else session["url"] + "0"
    if state == "expired":
        shop.insist("POST", f"/v1/checkout/sessions/{session['id']}/expire")
    page = visit(address, bypass_csp=True, color_scheme=scheme, reduced_motion="reduce")
    if state == "wrong":
        press(page)
        expect(page.get_by_role("alert")).to_be_visible()
    if state in ("declined", "paid"):
        fill(page, DECLINED if state == "declined" else PAYS)
        press(page)
        expect(page.get_by_role("alert" if state == "declined" else "status").first).to_be_visible()
    if state == "paid":
        page.goto(session["url"])
    assert complaints_of_axe(page) == []


@pytest.mark.parametrize("color", ["#ffffff", "#000000", "#ffe000", "#7f7f7f", "#1f4fd8"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.needs("axe")
def test_any_colour_of_a_merchant_can_be_read(shop: Shop, site: str, visit: Callable[..., Page], color: str, scheme: str) -> None:
    """The colour is the merchant's, the contrast is ours."""
    assert shop.command("brand", "--name", "Bright & Co", "--color", color).returncode == 0
    page = visit(order(shop, site)["url"], bypass_csp=True, color_scheme=scheme)
    page.reload()
    assert complaints_of_axe(page, "color-contrast") == []
    assert shop.command("brand", "--no-name", "--no-color").returncode == 0
