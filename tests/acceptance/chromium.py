"""A buyer at a real Chromium: the widths he has, how he types, and what axe says of what he sees."""

import shutil
from pathlib import Path

from buyer import asked
from payments_system import Shop
from playwright.sync_api import Page

from payment_page import PAYS

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).resolve().parents[2] / "requirements" / "node" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
# The narrowest that WCAG 2.2 (1.4.10, reflow) asks for.
NARROW = {"width": 320, "height": 640}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def order(shop: Shop, site: str, **changes: object) -> dict[str, str]:
    """A session whose buyer comes back to the site."""
    return asked(shop, success_url=f"{site}/thanks?session={{CHECKOUT_SESSION_ID}}", cancel_url=f"{site}/cart", **changes)


def fill(page: Page, number: str = PAYS, **changes: str) -> None:
    """Type as a buyer does, key by key."""
    typed = {"email": "ada@example.com", "number": number, "expiry": "1234", "cvc": "123", "name": "Ada Lovelace"} | changes
    for field, text in typed.items():
        page.locator(f"#{field}").fill("")
        page.locator(f"#{field}").press_sequentially(text)


def press(page: Page) -> None:
    """The button."""
    page.locator("#pay").click()


def complaints_of_axe(page: Page, *rules: str) -> list[tuple[str, list[str]]]:
    """What axe finds on the page, by these rules or by all of WCAG 2.2 AA; needs a page opened with `bypass_csp`."""
    page.evaluate(AXE.read_text())
    only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": WCAG}
    found = page.evaluate("(only) => axe.run({runOnly: only})", only)
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
