"""The shop's own server: a webhook receiver with the signature checked by the official package, and the page buyers come back to."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final

# Our events have some thousand bytes; this only bounds a mistake.
BODY_MAX: Final = 1_000_000


class Inbox:
    """What has come: how often each event came with a good signature, how many requests had none, which orders came home.

    Buyers come back to `home`; what stands in its `{CHECKOUT_SESSION_ID}` then is added to `visits`.
    """

    def __init__(self) -> None:
        self.url = ""
        self.home = ""
        self.secret = ""
        self.unsigned = 0
        self.events: Counter[str] = Counter()
        self.visits: set[str] = set()
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

        def do_GET(self) -> None:
            found.visits.add(self.path.rpartition("=")[2])
            body = b"<!doctype html><title>Demo shop</title><p>Thank you.</p>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """The table at the end tells it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/webhooks"
    found.home = f"http://127.0.0.1:{server.server_port}/thanks"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
