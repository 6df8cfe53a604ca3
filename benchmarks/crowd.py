"""A crowd: requests that leave at their moments whatever has been answered, and what became of them second by second.

Run as `python -m benchmarks.crowd` with an Order of generate.py (its `rate` is what counts), a report as JSON on standard output.
Every answer counts here, a refusal too: what is asked is how long a crowd waits, and whether it is turned away.
"""

import json
import sys
from collections import Counter
from typing import Any, Final

from benchmarks.load import Load

NOT_ANSWERED: Final = "none"


class Crowd(Load):
    """One run. Latencies are filed under the second in which their request was due."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(order)
        self._seconds_of: list[list[float]] = [[] for _ in range(int(self._seconds) + 1)]
        self._good_of = [0] * (int(self._seconds) + 1)
        self._statuses: Counter[str] = Counter()

    def _note(self, data: bytes, latency: float, now: float) -> None:
        super()._note(data, latency, now)
        second = int(now - latency - self._begin)
        self._seconds_of[second].append(latency)
        self._good_of[second] += data.startswith(b"HTTP/1.1 200") and self._contains in data
        self._statuses[data[9:12].decode()] += 1

    def report(self) -> dict[str, Any]:
        """Everything of all seconds."""
        answered = sum(map(len, self._seconds_of))
        return {
            "sent": self._sent, "answered": answered, "first_wrong": self._first_wrong,
            "statuses": {**self._statuses, **({NOT_ANSWERED: self._sent - answered} if self._sent > answered else {})},
            "seconds": [
                {"answered": len(one), "good": good, "p99_ms": _p99_ms(one)}
                for one, good in zip(self._seconds_of, self._good_of, strict=True)
            ],
        }  # fmt: skip


def _p99_ms(latencies: list[float]) -> float:
    """0 for a second in which nothing was due."""
    ordered = sorted(latencies)
    return round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] * 1000, 1) if ordered else 0.0


if __name__ == "__main__":
    crowd = Crowd(json.load(sys.stdin))
    crowd.run()
    json.dump(crowd.report(), sys.stdout)
