"""A running system as a merchant and as an auditor see it: requests with keys, and the PSP's truth against the books."""

import asyncio
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from whole_system import System, environment, until

from keepers import alive

PATIENCE_SECONDS = 60.0
SOCKET_SECONDS = 30.0
# What a client repeats with the same key, as the official SDKs do: lost connections, conflicts that say so, 5xx.
REPEATED = frozenset({500, 502, 503})
UP = str(Path(__file__).with_name("up_to_be_killed.py"))
OPERATIONS = ("purchase", "authorize", "capture", "void", "refund")
NEW_PAYMENTS = frozenset({"purchase", "authorize"})
# The payment's state once the operation is done.
DONE = {"purchase": "succeeded", "authorize": "requires_capture", "capture": "succeeded", "void": "canceled", "refund": "succeeded"}


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        """The JSON document."""
        return json.loads(self.raw)

    @property
    def replayed(self) -> bool:
        """Whether the answer stood there before this request."""
        return self.headers.get("idempotent-replayed") == "true"


@contextmanager
def running_shop(folder: Path, **variables: str) -> Iterator["Shop"]:
    """A system that runs for the tests of a module; in the end nothing may be open, and all of it is audited."""
    shop = Shop(folder, **variables)
    shop.up()
    try:
        yield shop
        wait(lambda: not shop.rows("SELECT * FROM attempt_open WHERE state <> 'recheck'"), "nothing is open")
        shop.audit()
        checked = shop.command("check")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert shop.stop() == 0
    finally:
        if shop.process is not None:
            shop.process.kill()
            shop.process.communicate()


class Shop(System):
    """`guilder up` whose roles may be killed as often as a test likes, with a crash file, a client and an auditor."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.crash_file = folder / "crash"
        super().__init__(folder / "data", GUILDER_CRASH_FILE=str(self.crash_file), **variables)

    def up(self, *flags: str) -> dict[str, Any]:
        """As System.up, without the supervisor's waits after many deaths."""
        self.process = subprocess.Popen(
            [sys.executable, UP, "up", "--json", "--data", str(self.data), *(flags or ("--port", "0"))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | self.variables,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith('{"ready"'):
            self.process.kill()
            pytest.fail(f"guilder up said {line!r}, {self.process.communicate()}")
        self.line = json.loads(line)
        return self.line

    # --- the merchant -----------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, params: Mapping[str, Any] | None = None, *, key: str | None = None, **headers: str) -> Answer:
        """One request; raises OSError or HTTPException when its answer is lost."""
        host = self.line["api"].removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=SOCKET_SECONDS)
        sent = {"Authorization": f"Bearer {self.line['secret_key']}", **headers}
        if key is not None:
            sent["Idempotency-Key"] = key
        body = None
        if method == "POST":
            sent.setdefault("Content-Type", "application/json")
            body = json.dumps(params or {}).encode()
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """The object at a path; repeated while the connection is lost or the service not possible."""
        return self.insist("GET", path).body

    def insist(self, method: str, path: str, params: Mapping[str, Any] | None = None, *, key: str | None = None) -> Answer:
        """The final answer: the same request with the same key until there is one."""
        key = key or (secrets.token_hex(12) if method == "POST" else None)

        def final() -> Answer | None:
            try:
                answer = self.request(method, path, params, key=key)
            except (OSError, http.client.HTTPException):
                return None
            again = answer.status in REPEATED or (answer.status == 409 and answer.headers.get("stripe-should-retry") == "true")
            return None if again else answer

        return wait(final, f"{method} {path} has its final answer")

    def pay(self, *, key: str | None = None, **params: Any) -> Answer:
        """Take a payment with a card that pays."""
        fields = {"amount": 1000, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True} | params
        return self.insist("POST", "/v1/payment_intents", fields, key=key)

    def paid(self, **params: Any) -> dict[str, Any]:
        """A payment that was taken or authorized, also when it could not be sent, or nobody could tell, at first."""

        def sent() -> Answer | None:
            answer = self.pay(**params)
            return None if answer.body.get("error", {}).get("code") == "processing_error" else answer

        answer = wait(sent, "a payment is sent")
        assert answer.status == 200, answer.body
        payment = self.at_rest(answer.body["id"]) if answer.body["status"] == "processing" else answer.body
        assert payment["status"] in ("succeeded", "requires_capture"), payment
        return payment

    # --- faults -----------------------------------------------------------------------------------------------------

    def crash_at(self, point: str) -> None:
        """The first process that reaches this point dies there."""
        new = self.crash_file.with_suffix(".new")
        new.write_text(point)
        new.rename(self.crash_file)

    def crashed(self) -> bool:
        """Whether it has."""
        return not self.crash_file.exists()

    def bank(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> bytes:
        """Ask the bank world's control port."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(self.running()["network_control"] + path, method=method, data=body)
        with urllib.request.urlopen(request, timeout=SOCKET_SECONDS) as response:
            return response.read()

    def fault(self, kind: str, **rule: Any) -> str:
        """Switch a fault on; returns its id."""
        return json.loads(self.bank("POST", "/faults", {"kind": kind, **rule}))["id"]

    def no_fault(self, id_: str) -> None:
        """Switch one fault off."""
        self.bank("DELETE", f"/faults?id={id_}")

    def no_faults(self) -> None:
        """Switch all faults off."""
        self.bank("DELETE", "/faults")

    def count_received(self) -> None:
        """Have the bank count the requests that arrive from now on, by operation, with rules that never hit."""
        self.no_faults()
        for operation in (*OPERATIONS, "reversal"):
            self.fault("lost_answer", operation=operation, probability=0)

    def received(self) -> dict[str, int]:
        """How many requests of each operation have arrived since `count_received`."""
        return {fault["rule"]["operation"]: fault["seen"] for fault in json.loads(self.bank("GET", "/faults"))["faults"]}

    def pid(self, role: str) -> int:
        """The process of a role, as soon as one runs."""
        return wait(lambda: self.running()["roles"][role], f"{role} runs")[0]

    def kill(self, role: str) -> None:
        """kill -9 of a role, of `postgres`, or of the `supervisor`, which is then started again."""
        if role == "supervisor":
            pids = self.pids()
            self.stop(signal.SIGKILL)
            until(lambda: not any(alive(pid) for pid in pids), "every process is gone")
            self.up()
        else:
            os.kill(self.running()["postgres"] if role == "postgres" else self.pid(role), signal.SIGKILL)

    @contextmanager
    def stopped(self, role: str) -> Iterator[int]:
        """The process of a role, or the `supervisor`, stands still inside the block (SIGSTOP, SIGCONT)."""
        pid = self.running()["supervisor"] if role == "supervisor" else self.pid(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGCONT)

    # --- the auditor ------------------------------------------------------------------------------------------------

    def rows(self, sql: str, *arguments: object) -> list[dict[str, Any]]:
        """What the database says, past the API; waits for a database that is being started."""

        async def ask() -> list[dict[str, Any]] | None:
            try:
                connection = await asyncpg.connect(self.running()["database_url"])
            except (OSError, asyncpg.PostgresError):
                return None
            try:
                return [dict(row) for row in await connection.fetch(sql, *arguments)]
            except (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, asyncpg.AdminShutdownError):
                return None
            finally:
                connection.terminate()

        found: list[list[dict[str, Any]]] = []

        def answered() -> bool:
            rows = asyncio.run(ask())
            if rows is not None:
                found.append(rows)
            return rows is not None

        wait(answered, "the database answers")
        return found[0]

    def at_rest(self, payment: str) -> dict[str, Any]:
        """The payment as soon as nothing of it is open any more (a later look at an undone attempt does not count)."""

        def rest() -> bool:
            return not self.rows("SELECT 1 FROM attempt_open WHERE payment = $1 AND state <> 'recheck'", payment)

        wait(rest, f"{payment} is at rest")
        return self.get(f"/v1/payment_intents/{payment}")

    def put_off_rechecks(self) -> None:
        """What has ended as undone is asked about a day later: what one test leaves behind is no work in the next one's time."""
        self.rows("UPDATE attempt_open SET retry_at = retry_at + 86400000000 WHERE state = 'recheck'")

    def truth(self) -> list[dict[str, Any]]:
        """Every effect in the bank world."""
        return [json.loads(line) for line in self.bank("GET", "/truth").splitlines()]

    def audit(self, payment: str | None = None) -> None:
        """PSP truth = books, for one payment or for all: effects against attempts, charges and refunds, and the books in themselves."""
        truth = effects(self.truth())
        attempts = self.rows(_ATTEMPTS, payment)
        for attempt in attempts:
            expected = expected_effects(attempt)
            assert truth.get(attempt["reference"], Counter()) == expected, (attempt, truth.get(attempt["reference"]))
        if payment is None:
            assert set(truth) <= {attempt["reference"] for attempt in attempts}, "an effect without an intent"
        self._audit_payments(attempts, payment)
        assert self.rows("SELECT * FROM wallet_difference") == []

    def _audit_payments(self, attempts: list[dict[str, Any]], payment: str | None) -> None:
        done: dict[str, Counter[str]] = {}
        times: dict[str, Counter[str]] = {}
        for attempt in attempts:
            if attempt["state"] == "approved":
                done.setdefault(attempt["payment"], Counter())[attempt["operation"]] += attempt["amount"]
                times.setdefault(attempt["payment"], Counter())[attempt["operation"]] += 1
            if attempt["returned"]:
                done[attempt["payment"]]["refund"] -= attempt["amount"]
        charges = self.rows("SELECT payment, captured, refunded, refunding FROM charge WHERE succeeded AND payment = coalesce($1, payment)", payment)
        captured = {row["payment"]: row for row in charges}
        for id_, amounts in done.items():
            taken = times[id_]["purchase"] + times[id_]["capture"]
            assert taken <= 1, f"{id_} was captured {taken} times"
            assert amounts["purchase"] + amounts["capture"] == captured[id_]["captured"]
            assert amounts["refund"] == captured[id_]["refunded"]
        assert set(captured) <= set(done), "a charge without an approved attempt"


class Doing:
    """One operation under a key of its own, on a payment that is ready for it; `amount` is what the PSP is asked for."""

    def __init__(self, shop: Shop, operation: str, *, amount: int = 1000, card: str = "pm_card_visa") -> None:
        self.shop = shop
        self.operation = operation
        self.amount = amount
        self.key = f"{operation}-{secrets.token_hex(12)}"
        self.payment: str | None = None
        manual = {} if operation in ("purchase", "refund") else {"capture_method": "manual"}
        new = {"amount": amount, "currency": "eur", "payment_method": card, "confirm": True} | manual
        if operation in NEW_PAYMENTS:
            self.path, self.params = "/v1/payment_intents", new
            return
        self.payment = shop.paid(**new | ({} if operation == "void" else {"amount": amount + 5000}))["id"]
        one = f"/v1/payment_intents/{self.payment}"
        self.path, self.params = {
            "capture": (f"{one}/capture", {"amount_to_capture": amount}),
            "void": (f"{one}/cancel", {}),
            "refund": ("/v1/refunds", {"payment_intent": self.payment, "amount": amount}),
        }[operation]

    def do(self) -> Answer:
        """The request, until it has its final answer."""
        return self.shop.insist("POST", self.path, self.params, key=self.key)

    def payment_of(self, answer: Answer) -> str:
        """The payment that an answer is about."""
        assert answer.status in (200, 402), answer.raw
        body = answer.body
        if "error" in body:
            return body["error"]["payment_intent"]["id"]
        return body["payment_intent"] if body["object"] == "refund" else body["id"]

    def check(self, answer: Answer, *, undone: bool | None = False) -> dict[str, Any]:
        """Everything that has to hold in the end; returns the payment.

        The payment is at rest, the answer under the key stands for ever and agrees with it, and so does the bank with the
        books. `undone`: whether nothing was taken; None where both may be.
        """
        payment = self.shop.at_rest(self.payment_of(answer))
        again = self.do()
        assert (again.status, again.raw, again.replayed) == (answer.status, answer.raw, True)
        self.shop.audit(payment["id"])
        if undone is None:
            undone = payment["status"] != DONE[self.operation]
            if undone and self.operation in ("capture", "void"):
                # Certainly not sent: the PSP was away when it was their turn, and the attempt says so.
                assert (answer.status, answer.body["error"]["code"]) == (402, "processing_error")
                ended = self.shop.rows("SELECT state FROM attempt WHERE payment = $1 ORDER BY id DESC LIMIT 1", payment["id"])
                assert [one["state"] for one in ended] == ["not_sent"]
                assert payment["status"] == "requires_capture"
                return payment
        if undone:
            assert self.operation in NEW_PAYMENTS
            assert payment["status"] == "requires_payment_method"
            assert answer.status == 402 or answer.body["status"] == "processing"
        else:
            assert payment["status"] == DONE[self.operation], payment
            assert answer.status == 200
            assert answer.body["status"] in ("processing", "pending", DONE[self.operation])
        return payment


def effects(truth: list[dict[str, Any]]) -> dict[str, Counter[tuple[str, int, str]]]:
    """What is left of each reference's effects after reversals: (kind, amount, currency) -> how often."""
    left: dict[str, Counter[tuple[str, int, str]]] = {}
    for effect in truth:
        kind = effect["kind"]
        if kind == "authentication":
            # It moves nothing; `guilder check` holds it against the books.
            left.setdefault(effect["reference"], Counter())
        elif kind == "reversal":
            undone = left[effect["original"]]
            undone[effect["reversed"], effect["amount"], effect["currency"]] -= 1
            left[effect["original"]] = +undone
        else:
            left.setdefault(effect["reference"], Counter())[kind, effect["amount"], effect["currency"]] += 1
    return left


# A refund that was paid and has failed after all is one that came back.
_ATTEMPTS = """
SELECT a.id, a.payment, a.operation, a.reference, a.amount, a.currency, a.state,
       a.state = 'approved' AND coalesce(r.state = 'failed', false) AS returned
FROM attempt a LEFT JOIN refund r ON r.id = a.refund WHERE a.payment = coalesce($1, a.payment)
"""
_EFFECTS = {
    "purchase": ("authorization", "capture"),
    "authorize": ("authorization",),
    "capture": ("capture",),
    "void": ("void",),
    "refund": ("refund",),
    "authenticate": (),
}


def expected_effects(attempt: Mapping[str, Any]) -> Counter[tuple[str, int, str]]:
    """What the bank must show of an attempt as the books have it: its effects if it was approved and has not come back, else none."""
    if attempt["state"] != "approved" or attempt["returned"]:
        return Counter()
    return Counter((kind, attempt["amount"], attempt["currency"]) for kind in _EFFECTS[attempt["operation"]])


def wait(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something holds, with the patience that restarts need on a loaded machine, and return it."""
    began = time.monotonic()
    while not (found := condition()):
        if time.monotonic() - began > PATIENCE_SECONDS:
            pytest.fail(f"waited too long until {what}")
        time.sleep(0.02)
    return found
