"""The shop's inbox: a webhook receiver as a merchant writes one, with the signature checked by the official package."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final

# Our events have some thousand bytes; this only bounds a mistake.
BODY_MAX: Final = 1_000_000


class Inbox:
    """What has come: how often each event came with a good signature, and how many requests had none."""

    def __init__(self) -> None:
        self.url = ""
        self.secret = ""
        self.unsigned = 0
        self.events: Counter[str] = Counter()
        self._lock = Lock()

    def take(self, body: bytes, signature: str) -> bool:
        """Take one request; False for one that is not the shop's system's."""
        import stripe

        try:
            event: Any = stripe.Webhook.construct_event(body, signature, self.secret)
        except (ValueError, stripe.SignatureVerificationError):
            with self._lock:
                self.unsigned += 1
            return False
        with self._lock:
            self.events[event.id] += 1
        return True


@contextmanager
def inbox() -> Iterator[Inbox]:
    """An inbox that listens on loopback until the end of the block."""
    found = Inbox()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), BODY_MAX))
            self.send_response(200 if found.take(body, self.headers.get("Stripe-Signature", "")) else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """The table at the end tells it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/webhooks"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
