"""3-D Secure in a real Chromium: the buyer at the page, at the bank, and back."""

import re
from collections.abc import Callable, Iterator

import pytest
from buyer import CHALLENGED, DECLINED, charges_of, session_of
from chromium import PHONE, complaints_of_axe, order, press
from payments_system import Shop, running_shop, wait
from playwright.sync_api import Page, expect

from payment_page import PAYS

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]

GERMAN = {"locale": "de-DE"}
BACK = re.compile("Back to the shop|Zurück zum Shop")
PHONE_WITHOUT_SCRIPT = {"java_script_enabled": False, "viewport": PHONE}
WITH_AND_WITHOUT_SCRIPT = pytest.mark.parametrize("buyer", [{}, PHONE_WITHOUT_SCRIPT], ids=["script", "no_script"])
BUYERS = pytest.mark.parametrize("buyer", [{"viewport": PHONE}, PHONE_WITHOUT_SCRIPT, GERMAN], ids=["phone", "no_script", "german"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One running system for all of these buyers."""
    with running_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def at_bank(shop: Shop, site: str, visit: Callable[..., Page]) -> Callable[..., tuple[dict[str, str], Page]]:
    """Takes a buyer with a card that wants a challenge to his bank's page."""

    def go(**options: object) -> tuple[dict[str, str], Page]:
        session = order(shop, site)
        page = visit(session["url"], **options)
        pay(page, CHALLENGED)
        page.wait_for_url("**/challenge/**")
        return session, page

    return go


def asked(shop: Shop) -> str:
    """The address of a challenge of the API's, of a shop that has no page to come back to."""
    payment = shop.pay(payment_method="pm_card_threeDSecure2Required").body
    return payment["next_action"]["redirect_to_url"]["url"]


def pay(page: Page, number: str = PAYS) -> None:
    """Fill in the form at once, and press the button."""
    typed = {"email": "ada@example.com", "number": number, "expiry": "12 / 34", "cvc": "123", "name": "Ada Lovelace"}
    for field, text in typed.items():
        page.locator(f"#{field}").fill(text)
    press(page)


def is_paid(page: Page, title: str = "Payment complete") -> None:
    """The page says so."""
    expect(page.get_by_role("heading", name=title)).to_be_visible()


def answer(page: Page, *, yes: bool) -> None:
    """The buyer's answer at his bank."""
    page.get_by_role("button", name=re.compile("^(Yes|Ja), " if yes else "^(No|Nein), ")).click()


def fits(page: Page) -> bool:
    """Whether nothing is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@BUYERS
def test_a_buyer_who_answers_yes_has_paid(shop: Shop, site: str, at_bank: Callable[..., tuple[dict[str, str], Page]], buyer: dict[str, object]) -> None:
    """From the form to the bank, back, and on to the shop, by itself."""
    session, page = at_bank(**buyer)
    assert fits(page)
    expect(page.locator("html")).to_have_attribute("lang", "de" if buyer == GERMAN else "en")
    expect(page.get_by_role("heading", name="Sind Sie das?" if buyer == GERMAN else "Is this you?")).to_be_visible()
    expect(page.locator(".amount")).to_have_text("42,99 EUR" if buyer == GERMAN else "42.99 EUR")
    answer(page, yes=True)
    expect(page.get_by_role("heading", name="Bezahlt" if buyer == GERMAN else "Payment complete")).to_be_visible()
    page.wait_for_url(f"{site}/thanks?session={session['id']}")
    assert charges_of(shop, session["id"]) == ["succeeded"]


@WITH_AND_WITHOUT_SCRIPT
def test_a_buyer_who_answers_no_pays_with_another_card(
    shop: Shop, site: str, at_bank: Callable[..., tuple[dict[str, str], Page]], buyer: dict[str, object],
) -> None:  # fmt: skip
    """The form says what happened; nothing was charged at the first card."""
    session, page = at_bank(**buyer)
    answer(page, yes=False)
    expect(page.get_by_role("alert")).to_contain_text("Your bank could not confirm that it is you")
    pay(page)
    is_paid(page)
    assert charges_of(shop, session["id"])[0] == "succeeded"



@pytest.mark.parametrize("buyer", [GERMAN, PHONE_WITHOUT_SCRIPT], ids=["german", "no_script"])
def test_a_buyer_who_comes_back_without_an_answer_may_choose(
    shop: Shop, site: str, at_bank: Callable[..., tuple[dict[str, str], Page]], buyer: dict[str, object],
) -> None:  # fmt: skip
    """The page does not drive them to the bank again: there is the way to it, and another card, with which they pay."""
    session, page = at_bank(**buyer)
    page.get_by_role("link", name=BACK).click()
    title, bank, other = (
        ("Ihre Bank möchte wissen, dass Sie es sind", "Weiter zu Ihrer Bank", "Eine andere Karte nehmen") if buyer == GERMAN
        else ("Your bank wants to know that it is you", "Continue to your bank", "Use another card")
    )  # fmt: skip
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.get_by_role("link", name=bank)).to_be_visible()
    page.get_by_role("link", name=other).click()
    pay(page)
    is_paid(page, "Bezahlt" if buyer == GERMAN else "Payment complete")
    assert charges_of(shop, session["id"])[0] == "succeeded"


@WITH_AND_WITHOUT_SCRIPT
@pytest.mark.parametrize("before", [None, DECLINED, CHALLENGED], ids=["first_try", "after_a_decline", "after_a_no"])
def test_the_back_button_at_the_bank_leads_to_the_same_choice(
    shop: Shop, site: str, visit: Callable[..., Page], buyer: dict[str, object], before: str | None,
) -> None:  # fmt: skip
    """Whatever came before, the page that the buyer comes back to lets him stay; who then goes on to the bank and answers has paid."""
    session = order(shop, site)
    page = visit(session["url"], **buyer)
    if before is not None:
        pay(page, before)
        if before == CHALLENGED:
            page.wait_for_url("**/challenge/**")
            answer(page, yes=False)
        expect(page.get_by_role("alert")).to_be_visible()
    pay(page, CHALLENGED)
    page.wait_for_url("**/challenge/**")
    page.go_back()
    expect(page.get_by_role("heading", name="Your bank wants to know that it is you")).to_be_visible()
    expect(page.get_by_role("link", name="Use another card")).to_be_visible()
    page.get_by_role("link", name="Continue to your bank").click()
    page.wait_for_url("**/challenge/**")
    answer(page, yes=True)
    is_paid(page)
    charges = charges_of(shop, session["id"])
    assert (charges[0], charges.count("succeeded")) == ("succeeded", 1)


@WITH_AND_WITHOUT_SCRIPT
def test_a_buyer_who_never_answers_is_asked_for_a_card_again(
    shop: Shop, site: str, at_bank: Callable[..., tuple[dict[str, str], Page]], buyer: dict[str, object],
) -> None:  # fmt: skip
    """A quarter of an hour later, also when his yes comes then: nothing was charged, the page says why, another card pays."""
    session, page = at_bank(**buyer)
    assert shop.command("clock", "advance", "16m").returncode == 0
    status = lambda: session_of(shop, session["id"])["payment_intent"]["status"]  # noqa: E731
    wait(lambda: status() == "requires_payment_method", "the challenge is given up")
    answer(page, yes=True)
    expect(page.get_by_role("alert")).to_contain_text("You did not confirm the payment with your bank in time")
    pay(page)
    is_paid(page)
    assert charges_of(shop, session["id"])[0] == "succeeded"


@pytest.mark.parametrize(
    ("yes", "locale", "title", "text"),
    [
        (True, "en-US", "Payment complete", "Sandbox has received €10.00"),
        (True, "de-DE", "Bezahlt", "Sandbox hat 10,00\u00a0€ erhalten"),
        (False, "en-US", "Your card was not charged", "Your bank could not confirm that it is you"),
        (False, "de-DE", "Ihre Karte wurde nicht belastet", "Ihre Bank konnte nicht bestätigen"),
    ],
)
def test_without_a_shop_to_go_back_to_the_way_ends_with_us(shop: Shop, visit: Callable[..., Page], yes: bool, locale: str, title: str, text: str) -> None:
    """Told in the buyer's language, with who was paid how much, or why not; the other language is one click away."""
    page = visit(asked(shop), locale=locale, viewport=PHONE)
    answer(page, yes=yes)
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(text)
    assert fits(page)
    page.get_by_role("link", name="English" if locale == "de-DE" else "Deutsch").click()
    expect(page.locator("html")).to_have_attribute("lang", "en" if locale == "de-DE" else "de")
    expect(page.get_by_role("heading", name=title)).to_have_count(0)


def test_who_has_not_answered_is_sent_back_to_the_bank(shop: Shop, visit: Callable[..., Page]) -> None:
    """From a page of ours, where there is no order to go back to."""
    page = visit(asked(shop), locale="de-DE")
    page.get_by_role("link", name=BACK).click()
    expect(page.get_by_role("heading", name="Ihre Bank wartet noch auf Ihre Antwort")).to_be_visible()
    page.get_by_role("link", name="Weiter zu Ihrer Bank").click()
    answer(page, yes=True)
    expect(page.get_by_role("heading", name="Bezahlt")).to_be_visible()


def test_while_the_bank_is_asked_for_its_result_the_page_waits_and_goes_on_by_itself(shop: Shop, visit: Callable[..., Page]) -> None:
    """The executor stands still for longer than a request waits."""
    page = visit(asked(shop), bypass_csp=True)
    with shop.stopped("executor"):
        answer(page, yes=True)
        expect(page.get_by_role("heading", name="Checking with your bank")).to_be_visible(timeout=15_000)
        assert complaints_of_axe(page) == []
    expect(page.get_by_role("heading", name="Payment complete")).to_be_visible(timeout=30_000)


@pytest.mark.needs("axe")
@pytest.mark.parametrize("state", ["question", "answered", "nothing_at_bank", "unanswered", "paid", "refused", "missing", "order"])
def test_axe_finds_nothing_on_the_way(
    shop: Shop, visit: Callable[..., Page], at_bank: Callable[..., tuple[dict[str, str], Page]], state: str,
) -> None:  # fmt: skip
    """WCAG 2.2 AA, as far as a program can tell, at the bank and with us, in both colour schemes."""
    options = {"bypass_csp": True, "reduced_motion": "reduce", "viewport": PHONE}
    page = at_bank(**options)[1] if state == "order" else visit(asked(shop), **options)
    bank = page.url
    if state in ("paid", "refused", "answered"):
        answer(page, yes=state != "refused")
        expect(page.get_by_role("status")).to_be_visible()
    if state in ("unanswered", "order"):
        page.get_by_role("link", name=BACK).click()
        expect(page.get_by_role("status")).to_be_visible()
    if state == "answered":
        page.goto(bank)
        expect(page.get_by_role("heading", name="Already answered")).to_be_visible()
    if state == "nothing_at_bank":
        page.goto(re.sub(r"/challenge/.*", "/challenge/none", bank))
    if state == "missing":
        page.goto(asked(shop) + "0")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert complaints_of_axe(page) == []
