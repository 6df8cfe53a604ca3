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
        """How often an amount was really taken from a card, whatever was given back."""
        return len([one for one in self._effects(amount, currency) if one["kind"] == "capture"])

    def kept(self, amount: int, currency: str) -> int:
        """How often an amount was taken from a card and not put back by a reversal."""
        put_back = [one for one in self._effects(amount, currency) if one.get("reversed") == "capture"]
        return self.charged(amount, currency) - len(put_back)

    def _effects(self, amount: int, currency: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._ask("/truth").splitlines()]
        return [one for one in found if (one["amount"], one["currency"]) == (amount, currency)]

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        with urllib.request.urlopen(self._address + path, body, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - our own address
            return answer.read()
