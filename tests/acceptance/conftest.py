"""What acceptance tests share: a whole system of their own, a merchant's site, and a real Chromium."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import CHROMIUM, DESKTOP
from payments_system import Shop, wait
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from whole_system import System


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A data folder on which a test may start the system; whatever runs at its end is killed."""
    found = System(tmp_path / "data")
    yield found
    if found.process is not None:
        found.process.kill()
        found.process.communicate()


@pytest.fixture
def undisturbed(shop: Shop) -> Iterator[None]:
    """What a test has switched on, and the death that it has ordered, end with it."""
    yield
    try:
        wait(shop.crashed, "the process is dead")
    finally:
        shop.crash_file.unlink(missing_ok=True)
        shop.no_faults()
        shop.put_off_rechecks()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The merchant's own site, to which buyers come back."""

    class Thanks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>Shop</title><h1>Thank you</h1>")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Thanks)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium of this machine's."""
    # What a page shows for some seconds may take longer to be seen.
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address in a context of its own; nothing may be refused by the page's policy, and no script may fail."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def visit(url: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-US", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
