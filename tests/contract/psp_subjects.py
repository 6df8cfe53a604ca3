"""The counterparts over which the contract suite runs: one Subject per connector."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

from msgspec import Struct, convert

from guilder.core.clock import SystemClock
from guilder.psp import Connector, Late, Order, Recorder
from guilder.psp.connectors import webpsp
from guilder.psp.connectors.cardnet import Cardnet, CardnetSettings, Limits
from guilder.psp.connectors.webpsp import Webpsp, WebpspSettings
from guilder.psp.measure import Measures
from guilder.security import Pan, Secret
from guilder.vault import Card, Reveal

# A process that has not come up by then never will.
START_SECONDS: Final = 20.0


class Effect(Struct, frozen=True):
    """One thing that really happened at the counterpart."""

    reference: str
    kind: str
    amount: int
    currency: str
    original: str | None = None
    reversed: str | None = None


class Subject(Protocol):
    """A connector's counterpart, and what a test may do with it."""

    CVC: str

    @classmethod
    def running(cls, folder: Path) -> Any:
        """Context manager: start the counterpart with its memory in this folder; give the Subject."""
        ...

    def connector(self, *, late: Late, recorder: Recorder, reachable: bool = True, **limits: Any) -> Connector:
        """A connector to it, not started; to an address where nobody listens unless reachable."""
        ...

    def card(self, name: str) -> Card:
        """The test card of this name; `pm_NAME` reveals it."""
        ...

    def truth(self, order: Order) -> list[Effect]:
        """What really happened under this order's reference."""
        ...

    def fault(self, kind: str, order: Order, **rule: Any) -> Any:
        """Context manager: this goes wrong for this order's reference. Gives a function that says whether it has."""
        ...

    def answer_challenge(self, url: str, *, passed: bool) -> str:
        """The buyer answers the issuer's challenge; returns where he is sent back to."""
        ...


class BankSubject:
    """The sandbox bank world, as `python -m guilder.network` runs it; which of its faces, a connector decides."""

    CVC = "737"
    NUMBERS: Final[Mapping[str, str]] = {
        "good": "4242424242424242",
        "available_at_once": "4000000000000077",
        "declined": "4000000000000002",
        "insufficient_funds": "4000000000009995",
        "lost": "4000000000009987",
        "stolen": "4000000000009979",
        "expired": "4000000000000069",
        "incorrect_cvc": "4000000000000127",
        "processing_error": "4000000000000119",
        "velocity": "4000000000006975",
        "no_such_card": "4999999999999996",
        "cvc_fails": "4000000000000101",
        "postal_code_fails": "4000000000000036",
        "refund_pending": "4000000000007726",
        "refund_returned": "4000000000005126",
        "authenticates": "4000000000003238",
        "challenges": "4000000000003220",
        "authentication_unavailable": "4000000000003097",
        "authentication_not_supported": "378282246310005",
    }

    def __init__(self, control_port: int, iso_port: int) -> None:
        self._control_port = control_port
        self._iso_port = iso_port

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> Iterator[Self]:
        """Start the process; end it by SIGTERM and wait."""
        process = subprocess.Popen(
            [sys.executable, "-m", "guilder.network", "--data", str(folder), "--http-port", "0", "--iso-port", "0", *cls._arguments(folder)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield cls(ready["http_port"], ready["iso_port"])
        finally:
            process.terminate()
            process.wait(START_SECONDS)
            if process.stdout is not None:
                process.stdout.close()

    @classmethod
    def _arguments(cls, _folder: Path) -> list[str]:
        return []

    async def _reveal(self, asked: Sequence[Reveal]) -> Sequence[Card | None]:
        return [self.card(reveal.payment_method_id.removeprefix("pm_")) for reveal in asked]

    def card(self, name: str) -> Card:
        """See Subject."""
        return Card(number=Pan(self.NUMBERS[name]), exp_month=12, exp_year=2040, cvc=Secret(self.CVC), postal_code="1012 AB")

    def truth(self, order: Order) -> list[Effect]:
        """See Subject."""
        lines = self._call("GET", f"/truth?reference={order.reference}").splitlines()
        return [convert(json.loads(line), Effect) for line in lines]

    @contextmanager
    def fault(self, kind: str, order: Order, **rule: Any) -> Iterator[Callable[[], bool]]:
        """See Subject."""
        standing = json.loads(self._call("POST", "/faults", {"kind": kind, "reference": order.reference} | rule))

        def has_hit() -> bool:
            return any(one["hits"] for one in json.loads(self._call("GET", "/faults"))["faults"] if one["id"] == standing["id"])

        try:
            yield has_hit
        finally:
            self._call("DELETE", f"/faults?id={standing['id']}")

    def answer_challenge(self, url: str, *, passed: bool) -> str:
        """See Subject."""
        connection = http.client.HTTPConnection("127.0.0.1", self._control_port, timeout=START_SECONDS)
        try:
            connection.request("POST", urlsplit(url).path, f"answer={'pass' if passed else 'fail'}")
            return str(connection.getresponse().getheader("Location"))
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._control_port, timeout=START_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status < 300, (answer.status, data)
            return data
        finally:
            connection.close()


class CardnetSubject(BankSubject):
    """The acquirer, ISO 8583 over TCP."""

    def connector(self, *, late: Late, recorder: Recorder, reachable: bool = True, **limits: Any) -> Connector:
        """See Subject."""
        port = self._iso_port if reachable else _closed_port()
        return Cardnet(
            CardnetSettings(host="127.0.0.1", port=port),
            reveal=self._reveal,
            clock=SystemClock(),
            late=late,
            recorder=recorder,
            limits=Limits(**{"sweep_seconds": 0.02} | limits),
        )


class WebpspSubject(BankSubject):
    """The web PSP, JSON over HTTP."""

    API_KEY: Final = "web_key_of_the_contract"
    SIGNING_SECRET: Final = "web_secret_of_the_contract"

    @classmethod
    def _arguments(cls, folder: Path) -> list[str]:
        file = folder / "merchant.json"
        file.write_text(json.dumps({"api_key": cls.API_KEY, "signing_secret": cls.SIGNING_SECRET}))
        return ["--web-merchant", str(file)]

    def call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        """What the PSP answers to a request as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self._control_port, timeout=START_SECONDS)
        try:
            connection.request(method, path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def connector(
        self, *, late: Late, recorder: Recorder, reachable: bool = True, measures: Measures | None = None, **limits: Any,
    ) -> Connector:  # fmt: skip
        """See Subject."""
        port = self._control_port if reachable else _closed_port()
        return Webpsp(
            WebpspSettings(url=f"http://127.0.0.1:{port}", api_key=Secret(self.API_KEY)),
            reveal=self._reveal,
            clock=SystemClock(),
            late=late,
            recorder=recorder,
            limits=webpsp.Limits(**limits),
            measures=measures,
        )


def _closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
