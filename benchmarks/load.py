"""The load generator: a process of its own, many keep-alive connections, little CPU.

Run as `python -m benchmarks.load`, an Order as JSON on standard input, a Report as JSON on standard output. It imports
nothing heavy and does per request what must be done: one send, one receive, one look at the answer. Closed loop: each
connection sends its next request when the last is answered, so a slow server is asked less. Open loop: requests leave at
moments drawn beforehand, whatever has been answered, and latency counts from that moment: this is what a crowd of buyers does.
"""

import json
import random
import select
import socket
import sys
from array import array
from collections import deque
from time import perf_counter, process_time
from typing import Any, Final
from urllib.parse import urlsplit

# Where a request's number goes; always twelve digits, so that Content-Length holds.
NUMBER: Final = b"{n}"
# No order may run longer, or send more.
SECONDS_MAX: Final = 300.0
COUNT_MAX: Final = 5_000_000
# How long the last answers are waited for.
DRAIN_SECONDS: Final = 15.0
READ_BYTES: Final = 1 << 18


class Caller:
    """One connection: one request under way at most."""

    __slots__ = ("begun", "got", "socket", "want")

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self.got = b""
        self.want = 0


class Load:
    """One run.

    Args (the Order): url (loopback), requests (whole HTTP requests with `{n}` where the number goes, taken in turn),
    contains (what every good body holds), connections, seconds, count, rate (a second; 0: closed loop), seed.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        address = urlsplit(order["url"])
        if address.hostname not in ("127.0.0.1", "localhost"):
            raise ValueError("only this machine is loaded")
        self._requests = [request.encode().split(NUMBER) for request in order["requests"]]
        self._contains: bytes = order["contains"].encode()
        self._seconds = min(float(order["seconds"]), SECONDS_MAX)
        self._count = min(int(order["count"] or COUNT_MAX), COUNT_MAX)
        self._rate = float(order["rate"])
        self._random = random.Random(order["seed"])
        self._callers = [Caller(address.hostname, address.port or 80) for _ in range(order["connections"])]
        self._by_descriptor = {caller.socket.fileno(): caller for caller in self._callers}
        self._poll = select.epoll()
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.EPOLLIN)
        self._sent = 0
        self._good = 0
        self._first_wrong = ""
        self._latencies = array("d")
        self._by_second = [0] * (int(self._seconds) + 1)

    def run(self) -> dict[str, Any]:
        """Send until time or count is up, wait for what is under way, and report."""
        self._begin = self._heard = perf_counter()
        self._end = self._begin + self._seconds
        if self._rate:
            self._run_open()
        else:
            self._run_closed()
        return self._report()

    def _run_closed(self) -> None:
        for caller in self._callers:
            self._send(caller, perf_counter())
        under_way = len(self._callers)
        while under_way:
            answers = self._receive(DRAIN_SECONDS)
            if not answers and self._silent(DRAIN_SECONDS):
                return
            for caller, answered in answers:
                if answered < self._end and self._sent < self._count:
                    self._send(caller, answered)
                else:
                    under_way -= 1

    def _run_open(self) -> None:
        idle = deque(self._callers)
        waiting: deque[float] = deque()
        due = self._begin + self._random.expovariate(self._rate)
        while due < self._end or waiting or len(idle) < len(self._callers):
            now = perf_counter()
            while due <= now and due < self._end:
                waiting.append(due)
                due += self._random.expovariate(self._rate)
            while waiting and idle:
                # The longest idle first, so that all connections are used. Latency counts from when the request was due.
                self._send(idle.popleft(), waiting.popleft())
            wait = max(0.0, due - perf_counter()) if due < self._end else DRAIN_SECONDS
            answers = self._receive(wait)
            if not answers and self._silent(wait):
                return
            idle.extend(caller for caller, _ in answers)

    def _silent(self, waited: float) -> bool:
        """Whether nothing was heard for as long as the last answers are waited for: what is under way is given up."""
        return waited >= DRAIN_SECONDS and perf_counter() - self._heard >= DRAIN_SECONDS

    def _send(self, caller: Caller, begun: float) -> None:
        parts = self._requests[self._sent % len(self._requests)]
        caller.begun = begun
        caller.socket.sendall((b"%012d" % self._sent).join(parts))
        self._sent += 1

    def _receive(self, timeout: float) -> list[tuple[Caller, float]]:
        """The callers whose answers are now complete, and when."""
        done = []
        for descriptor, _event in self._poll.poll(timeout):
            caller = self._by_descriptor[descriptor]
            data = caller.socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError(f"the server closed a connection after {self._good} answers")
            if caller.got:
                data = caller.got + data
            want = caller.want or _length(data)
            if not want or len(data) < want:
                caller.got, caller.want = data, want
                continue
            caller.got, caller.want = b"", 0
            self._heard = now = perf_counter()
            self._note(data, now - caller.begun, now)
            done.append((caller, now))
        return done

    def _note(self, data: bytes, latency: float, now: float) -> None:
        if data.startswith(b"HTTP/1.1 200") and self._contains in data:
            self._good += 1
            self._latencies.append(latency)
            if now < self._end:
                self._by_second[int(now - self._begin)] += 1
        else:
            self._first_wrong = self._first_wrong or data[:2000].decode(errors="replace")

    def _report(self) -> dict[str, Any]:
        ordered = sorted(self._latencies)
        within = sum(self._by_second)
        return {
            "sent": self._sent,
            "good": self._good,
            # What was never answered is wrong too.
            "wrong": self._sent - self._good,
            "first_wrong": self._first_wrong or ("no answer" if self._sent > self._good else ""),
            "seconds": round(perf_counter() - self._begin, 3),
            # What was answered within the time; the answers to the last requests come after it.
            "per_second": round(within / (self._seconds if self._sent < self._count else perf_counter() - self._begin), 1),
            "by_second": self._by_second[: int(self._seconds)],
            "cpu_seconds": round(process_time(), 3),
            **{f"{name}_ms": _share(ordered, part) for name, part in SHARES.items()},
        }


SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


def _share(ordered: list[float], part: float) -> float | None:
    """The latency in milliseconds that this part of all requests did not exceed."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000, 3)


def _length(data: bytes) -> int:
    """The bytes of the whole answer; 0 when its head is not complete."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return 0
    place = data.find(b"content-length: ", 0, head)
    if place < 0:
        place = data.lower().find(b"content-length: ", 0, head)
    if place < 0:
        raise ValueError(f"an answer without a length: {data[:200]!r}")
    return head + 4 + int(data[place + 16 : data.find(b"\r\n", place)])


if __name__ == "__main__":
    json.dump(Load(json.load(sys.stdin)).run(), sys.stdout)
