"""The payment page as a browser without JavaScript reads it: what an answer shows, and its form filled in."""

import re
from collections.abc import Mapping
from typing import NamedTuple

PAYS = "4242424242424242"


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

    @property
    def bank(self) -> str:
        """Where the button leads whose buyer has to answer his bank; empty where there is none."""
        found = re.search(r'<a class="pay" href="([^"]*/authenticate/[^"]*)"', self.html)
        return found[1] if found else ""


def filled(seen: Seen, number: str = PAYS, **changes: str) -> dict[str, str]:
    """The form that was seen, filled in."""
    typed = {
        "email": "ada@example.com", "number": number, "expiry": "12 / 34", "cvc": "123", "name": "Ada Lovelace", "postal_code": "1012 LG",
    }  # fmt: skip
    return seen.fields | typed | changes
