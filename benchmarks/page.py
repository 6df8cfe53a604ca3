"""The payment page: how fast it is served, what a visit weighs, and how long a card takes from the form to the answer.

One buyer after the other by a plain HTTP client on a kept connection, each with an order of its own: the page, what it links
to on its own origin (once, as a browser keeps it), and the form with a card that is paid.
"""

import http.client
import re
from collections.abc import Mapping
from itertools import count
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode, urljoin, urlsplit

from msgspec import Struct, to_builtins

from benchmarks import measure
from benchmarks.books import Wrong
from benchmarks.system import System

ANSWER_SECONDS_MAX: Final = 15.0
ORDER: Final = {
    "mode": "payment", "success_url": "http://127.0.0.1:9/thanks",
    "line_items": [
        {"price_data": {"currency": "eur", "unit_amount": 1250, "product_data": {"name": "Coffee"}}, "quantity": 2},
        {"price_data": {"currency": "eur", "unit_amount": 1799, "product_data": {"name": "Dripper"}}, "quantity": 1},
    ],
}  # fmt: skip
TYPED: Final = {
    "email": "ada@example.com", "number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123", "name": "Ada Lovelace",
    "postal_code": "1012 LG",
}  # fmt: skip
_FIELDS: Final = re.compile(r'name="(try|token|lang)" value="([^"]*)"')
_LINKS: Final = re.compile(r'(?:src|href)="([^"#]+\.(?:css|js|svg|png|webp|woff2|ico))"|url\(([^)"]+)\)')


class Load(Struct, frozen=True, kw_only=True):
    """One run: so many seconds, after a first visit that is not counted."""

    name: str
    seconds: float


class Buyer:
    """A client with one kept connection to the page."""

    def __init__(self, origin: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=ANSWER_SECONDS_MAX)
        self._connection.connect()

    def ask(self, url: str, form: Mapping[str, str] | None = None) -> tuple[int, bytes, float]:
        """Status, body, and seconds until all of it was there. Raises OSError."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        began = perf_counter()
        if form is None:
            self._connection.request("GET", path)
        else:
            self._connection.request("POST", path, urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
        answer = self._connection.getresponse()
        body = answer.read()
        return answer.status, body, perf_counter() - began


async def run(system: System, load: Load) -> list[dict[str, Any]]:
    """The rows of the page and of its form. Raises Wrong."""
    first = system.post("/v1/checkout/sessions", ORDER)["url"]
    buyer = Buyer(first)
    weight = _weight(buyer, first)
    before = await measure.snapshot(system)
    pages: list[float] = []
    forms: list[float] = []
    by_second = [0] * (int(load.seconds) + 1)
    began = perf_counter()
    for _ in count():
        if (second := int(perf_counter() - began)) >= load.seconds:
            break
        _visit(buyer, system.post("/v1/checkout/sessions", ORDER)["url"], pages, forms)
        by_second[second] += 1
    seconds = perf_counter() - began
    after = await measure.snapshot(system)
    cpu = measure.cpu_each(before, after, len(pages))
    shared = {
        "generator": "plain", "connections": 1, "seconds": round(seconds, 3), "per_second": round(len(pages) / seconds, 1),
        "by_second": by_second[:-1], "cpu_us": cpu, "cpu_us_all": round(sum(cpu.values()), 1),
        "machine": to_builtins(measure.machine(before, after, generator_seconds=0.0, folder=system.data)),
    }  # fmt: skip
    return [
        {"run": f"{load.name}: shown", **shared, **_percentiles(pages), "weight_kb": round(weight / 1000, 1)},
        {"run": f"{load.name}: paid", **shared, **_percentiles(forms)},
    ]


def _visit(buyer: Buyer, url: str, pages: list[float], forms: list[float]) -> None:
    """One buyer: looks, and pays."""
    status, body, seconds = buyer.ask(url)
    fields = dict(_FIELDS.findall(body.decode()))
    if status != 200 or not fields:
        raise Wrong(f"the page answered {status} without a form")
    pages.append(seconds)
    status, _, seconds = buyer.ask(url, fields | TYPED)
    if status != 303:
        raise Wrong(f"the form was answered with {status}")
    forms.append(seconds)


def _weight(buyer: Buyer, url: str) -> int:
    """Bytes of a first visit, uncompressed: the page, and what it and its style sheets link to on their own origin. Raises Wrong."""
    weights: dict[str, int] = {}
    left = [url]
    while left:
        status, body, _ = buyer.ask(at := left.pop())
        if status != 200:
            raise Wrong(f"{at} answered {status}")
        weights[at] = len(body)
        found = {urljoin(at, linked or named) for linked, named in _LINKS.findall(body.decode())}
        left += [one for one in found if urlsplit(one).netloc == urlsplit(url).netloc and one not in weights and one not in left]
    return sum(weights.values())


def _percentiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)

    def at(share: float) -> float:
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 3)

    return {"p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1.0)}
