"""A browser as plain as can be: it follows redirects, reads the form of a page, and sends it. No script, no cookie."""

import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Final, Self
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin

# The page answers when the bank has; this only bounds a mistake.
ANSWER_SECONDS: Final = 15.0


class Page(HTMLParser):
    """A page that was shown: where, its only form, its links and its words."""

    def __init__(self, address: str, html: str) -> None:
        super().__init__()
        self.address = address
        self.html = html
        self.action = address
        self.hidden: dict[str, str] = {}
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = urljoin(self.address, found.get("action", ""))
        elif tag == "input" and found.get("type") == "hidden":
            self.hidden[found["name"]] = found.get("value", "")
        elif tag == "a" and "href" in found:
            self.links.append(urljoin(self.address, found["href"]))

    @classmethod
    def open(cls, address: str) -> Self:
        """What is shown at an address. Raises OSError."""
        return cls._shown(urllib.request.Request(address))  # noqa: S310 - an address of the system that the demo has started

    def send(self, typed: Mapping[str, str]) -> "Page":
        """What is shown after the form was filled in and sent. Raises OSError."""
        body = urlencode(self.hidden | dict(typed)).encode()
        return self._shown(urllib.request.Request(self.action, body))  # noqa: S310 - as above

    def follow(self, part: str) -> "Page":
        """What is shown after the first link that has this in its address. Raises LookupError where there is none."""
        link = next((one for one in self.links if part in one), None)
        if link is None:
            raise LookupError(f"there is no link with {part} on {self.address}")
        return self.open(link)

    @classmethod
    def _shown(cls, request: urllib.request.Request) -> Self:
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - as above
                return cls(answer.url, answer.read().decode())
        except HTTPError as refused:
            # A page with what is wrong on it is a page as well.
            return cls(refused.url or request.full_url, refused.read().decode())
