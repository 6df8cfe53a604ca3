"""The web PSP's own form page: a buyer enters his card here, and the shop never sees it. Plain HTML, no script, no cookie.

The address is the whole secret. The buyer is sent back to the shop's side and told nothing else: what came of it, that side
asks. A card that is declined may be followed by another one; who gives up says so.
"""

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import parse_qs

from guilder.core.clock import Clock
from guilder.iso8583 import Code
from guilder.network.authenticate import mark
from guilder.network.challenge_page import HEADERS, HTML, amount_of, html_page
from guilder.network.entries import PageEnded, PageOpened
from guilder.network.hosted import CANCELED, DECLINED, Page
from guilder.network.http import Request, Response
from guilder.network.issuer import passes_luhn
from guilder.network.web.answers import CODES
from guilder.network.web.notices import Notice, Notifier
from guilder.network.web.requests import ACQUIRER, Card, NewPayment, payment_message
from guilder.network.world import World

PAY: Final = "/web/pay/"
# Cards that are declined on one page before it ends: a buyer with a third card is not trying to pay.
DECLINES_MAX: Final = 3
PURPOSE: Final = "web-pay"
_TITLE: Final = "Pay"


def page_url(world: World, opened: PageOpened) -> str:
    """The address at which this page is paid."""
    return f"{world.pages}{PAY}{opened.reference}-{mark(world.books, PURPOSE, ACQUIRER, opened.reference)}"


class PayPage:
    """Serves the pages. What it decides is answered by the desk once it is durable."""

    def __init__(self, world: World, clock: Clock, notifier: Notifier) -> None:
        self._world = world
        self._clock = clock
        self._notifier = notifier

    def answer(self, request: Request) -> Response:
        """GET shows the form, POST takes a card, or the buyer's refusal."""
        reference = request.path.removeprefix(PAY).partition("-")[0]
        page = self._world.hosted.find(ACQUIRER, reference)
        if page is None or request.path != PAY + page_url(self._world, page.opened).rpartition(PAY)[2]:
            return html_page("Nothing to pay", "<p>This address is not one of ours, or it is too old.</p>", 404)
        if self._over(page):
            status = 200 if request.method == "GET" else 409
            return html_page("Nothing to pay any more", f"<p>This payment has ended.</p>{_back(page)}", status)
        if request.method == "GET":
            return html_page(_TITLE, _form(page, ""))
        if request.method != "POST":
            return html_page("Not possible", "<p>Open this address in a browser.</p>", 405)
        return self._entered(page, {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()})

    def _over(self, page: Page) -> bool:
        """Paid, ended, too late, or reversed before anybody paid it."""
        now, reference = self._clock.now(), page.opened.reference
        paid = self._world.books.find(ACQUIRER, reference) is not None
        return paid or bool(page.standing(now)) or self._world.books.was_reversed_early(ACQUIRER, reference, now)

    def _entered(self, page: Page, given: Mapping[str, str]) -> Response:
        if given.get("answer") == "cancel":
            return self._ended(page, CANCELED)
        card = _card(given)
        if card is None:
            return html_page(_TITLE, _form(page, "Please check what you have entered."), 400)
        opened = page.opened
        new = NewPayment(
            reference=opened.reference, amount=opened.amount, currency=opened.currency, capture=opened.capture,
            descriptor=opened.descriptor,
        )  # fmt: skip
        code = self._world.try_card(payment_message(new, card, opened.key))
        if code == Code.APPROVED:
            self._tell(page, "approved")
            return _to(opened.returns_to)
        page.declined += 1
        if page.declined >= DECLINES_MAX:
            return self._ended(page, DECLINED)
        why = CODES.get(code, "declined").replace("_", " ")
        return html_page(_TITLE, _form(page, f"Your bank has declined this card ({why}). Try another one."), 402)

    def _ended(self, page: Page, why: str) -> Response:
        self._world.note_page(PageEnded(self._clock.now(), ACQUIRER, page.opened.reference, why))
        self._tell(page, "declined")
        return _to(page.opened.returns_to)

    def _tell(self, page: Page, status: str) -> None:
        opened = page.opened
        id_ = f"evt_{mark(self._world.books, f'notice-{status}', ACQUIRER, opened.reference)}"
        self._notifier.tell(Notice(
            id=id_, type="operation.updated", reference=opened.reference, status=status, amount=opened.amount, currency=opened.currency,
            metadata=dict(opened.metadata),
        ))  # fmt: skip


def _card(given: Mapping[str, str]) -> Card | None:
    """The card as entered, None for what can be none."""
    number = "".join(given.get("number", "").split())
    month, _, year = given.get("expiry", "").replace(" ", "").partition("/")
    cvc = given.get("cvc", "").strip()
    if not (number.isascii() and number.isdigit() and 12 <= len(number) <= 19 and passes_luhn(number)):
        return None
    if not (month.isdigit() and year.isdigit() and 1 <= int(month) <= 12 and cvc.isascii() and cvc.isdigit() and 3 <= len(cvc) <= 4):
        return None
    return Card(number=number, exp_month=int(month), exp_year=int(year) % 100 + 2000, cvc=cvc)


def _to(url: str) -> Response:
    return Response(b"", 303, HTML, (("Location", url), *HEADERS))


def _back(page: Page) -> str:
    return f'<p><a href="{escape(page.opened.returns_to, quote=True)}">Back to the shop</a></p>'


def _form(page: Page, problem: str) -> str:
    opened = page.opened
    return (
        f'<p class="amount">{amount_of(opened.amount, opened.currency)}</p>'
        f"<p>{escape(opened.descriptor.strip())}</p>"
        + (f'<p role="alert"><b>{escape(problem)}</b></p>' if problem else "")
        + '<form method="post"><label>Card number<br><input name="number" inputmode="numeric" autocomplete="cc-number" required></label>'
        '<label>Expiry (MM/YY)<br><input name="expiry" autocomplete="cc-exp" required></label>'
        '<label>Security code<br><input name="cvc" inputmode="numeric" autocomplete="cc-csc" required></label>'
        '<button name="answer" value="pay" class="yes">Pay</button>'
        '<button name="answer" value="cancel" formnovalidate>Do not pay</button></form>'
    )
