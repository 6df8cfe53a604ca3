"""The bank world's control port, as far as the demo needs it: faults on purpose, and the truth."""

import json
import urllib.request
from typing import Any, Final

# It answers at once; this only bounds a mistake.
ANSWER_SECONDS: Final = 10.0


class Bank:
    """The sandbox bank world at an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def lose_answer(self, *, operation: str, amount: int) -> None:
        """Let the bank carry out the next request of this operation and amount, and lose its answer."""
        rule = {"kind": "lost_answer", "operation": operation, "amount": amount, "count": 1}
        self._ask("/faults", json.dumps(rule).encode())

    def charged(self, amount: int, currency: str) -> int:
        """How often an amount was really taken from a card."""
        effects = [json.loads(line) for line in self._ask("/truth").splitlines()]
        return sum((one["kind"], one["amount"], one["currency"]) == ("capture", amount, currency) for one in effects)

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(self._address + path, body, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - our own address
            return answer.read()
