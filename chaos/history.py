"""What the clients have seen, in files of their own: append-only, a line before each request and a line after its answer.

invoke   about to be sent
ok       a definite answer: 2xx, 402, or a 4xx that says why
fail     certainly without effect: 503, which may be sent only when nothing was stored, or no connection
left     the client believes a 503 and never repeats
info     nobody knows: the answer is lost, or says that it is not known yet
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Line(Struct, omit_defaults=True):
    """One line. `at` in nanoseconds of CLOCK_MONOTONIC, the same for all clients of a run."""

    at: int
    client: int
    phase: str
    op: str
    key: str = ""
    merchant: int = 0
    method: str = "POST"
    path: str = ""
    params: dict[str, Any] | None = None
    status: int = 0
    digest: str = ""
    # What the answer says: object id, its state, amounts.
    object: str = ""
    state: str = ""
    amount: int = 0
    currency: str = ""
    replayed: bool = False
    error: str = ""
    # Of an answer: `at` of the line before its request. A buyer has no keys, and may have sent the same twice.
    asked: int = 0
    # Of a list: the seconds by which it says that it may be old (None: not at all), ids with states, and whether there is more.
    age: float | None = None
    listed: list[list[str]] | None = None
    more: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class History:
    """The file of one client, or by `who` of one buyer."""

    def __init__(self, folder: Path, client: int, who: str = "client") -> None:
        self.client = client
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / f"{who}-{client:03d}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, phase: str, op: str, **fields: Any) -> int:
        """Append a line; it is in the file when this returns: its `at`."""
        at = time.monotonic_ns()
        os.write(self._file, _encode(Line(at, self.client, phase, op, **fields)) + b"\n")
        return at

    def close(self) -> None:
        """No more lines."""
        os.close(self._file)


def read(folder: Path) -> Iterator[Line]:
    """All lines of all clients and buyers, in the order in which they were written."""
    lines = [_decode(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    yield from sorted(lines, key=lambda line: line.at)


def told(body: bytes) -> dict[str, Any]:
    """What an answer's body says that the invariants ask about."""
    try:
        document = json.loads(body)
    except ValueError:
        return {"error": "not JSON"}
    if isinstance(document, dict) and document.get("object") == "list":
        listed = [[str(one.get("id", "")), str(one.get("status", ""))] for one in document["data"]]
        return {"listed": listed, "more": bool(document["has_more"])}
    error = document.get("error") if isinstance(document, dict) else None
    if error:
        about = error.get("payment_intent") or {}
        found = {"object": about.get("id", ""), "state": about.get("status", ""), "error": error.get("code") or error.get("type") or "?"}
        return found | {"amount": about.get("amount", 0), "currency": about.get("currency", "")}
    if document.get("object") == "terminal.reader":
        action = document.get("action") or {}
        return {"object": (action.get("process_payment_intent") or {}).get("payment_intent", ""), "state": action.get("status", "")}
    amount = document.get("amount") or document.get("amount_total") or 0
    return {
        "object": str(document.get("id", "")), "state": str(document.get("status", "")), "amount": int(amount),
        "currency": str(document.get("currency", "")),
    }  # fmt: skip


def digest(body: bytes) -> str:
    """What two answers are compared by, byte for byte."""
    return hashlib.sha256(body).hexdigest()[:24]
