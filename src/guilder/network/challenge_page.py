"""The issuer's page at which a buyer answers a challenge: plain HTML, one form, no script, no cookie.

The address is the whole secret, as at a real issuer: whoever has it may answer, once. The browser is told where to go
back to and nothing else; what the answer was, the merchant's side asks the bank.
"""

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import parse_qs

from guilder.iso8583 import Authenticated
from guilder.network.currencies import BY_LETTERS, BY_NUMBER
from guilder.network.http import Request, Response
from guilder.network.world import Challenge, World

CHALLENGES: Final = "/challenge/"
HTML: Final = "text/html; charset=utf-8"
_ANSWERS: Final[Mapping[str, bool]] = {"pass": True, "fail": False}
# No form-action: the answer to the form leads on to the shop's side, which that directive would forbid.
HEADERS: Final = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)


class ChallengePage:
    """Serves the challenges of all issuers."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Response:
        """GET shows the challenge, POST answers it and sends the buyer back."""
        challenge = self._world.challenge(request.path.removeprefix(CHALLENGES))
        if challenge is None:
            return html_page("Nothing to confirm", "<p>This address is not one of ours, or it is too old.</p>", 404)
        if request.method == "POST":
            return self._answered(challenge, request)
        if request.method != "GET":
            return html_page("Not possible", "<p>Open this address in a browser.</p>", 405)
        if challenge.standing.result != Authenticated.CHALLENGE:
            return html_page("Already answered", f"<p>You have answered this.</p>{_back(challenge)}")
        return html_page("Is this you?", _question(challenge))

    def _answered(self, challenge: Challenge, request: Request) -> Response:
        given = parse_qs(request.body.decode("latin-1")).get("answer", [""])[0]
        if given not in _ANSWERS:
            return html_page("Is this you?", _question(challenge), 400)
        self._world.answer_challenge(challenge, passed=_ANSWERS[given])
        if not self._world.truth.sync():
            return html_page("One moment", "<p>The bank cannot store your answer now. Reload this page.</p>", 503)
        location = ("Location", challenge.standing.returns_to)
        return Response(b"", 303, HTML, (location, *HEADERS))


def _question(challenge: Challenge) -> str:
    operation = challenge.operation
    account = operation.account
    return (
        f'<p class="amount">{amount_of(operation.amount, operation.currency)}</p>'
        f"<p>A payment over the internet with your card {escape(account.masked[-4:] if account else '')} waits for your yes.</p>"
        '<form method="post"><button name="answer" value="pass" class="yes">Yes, it is me</button>'
        '<button name="answer" value="fail">No, refuse it</button></form>'
        f"{_back(challenge)}"
    )


def amount_of(amount_minor: int, letters: str) -> str:
    """An amount as a buyer reads it."""
    currency = BY_NUMBER[BY_LETTERS[letters]]
    whole, part = divmod(amount_minor, 10**currency.decimals)
    amount = f"{whole:,}" + (f".{part:0{currency.decimals}d}" if currency.decimals else "")
    return f"{amount} {letters.upper()}"


def _back(challenge: Challenge) -> str:
    return f'<p><a href="{escape(challenge.standing.returns_to, quote=True)}">Back to the shop</a></p>'


_STYLE: Final = (
    "body{margin:0;min-height:100vh;display:grid;place-items:center;background:#eef1f0;color:#12211c;font:17px/1.5 system-ui,sans-serif}"
    "main{box-sizing:border-box;width:min(26rem,94vw);padding:2rem;background:#fff;border-top:6px solid #0b6b50;border-radius:6px}"
    "h1{margin:0 0 1rem;font-size:1.3rem}.bank{margin:0 0 1.5rem;color:#0b6b50;font-weight:700}"
    ".amount{margin:0;font-size:1.9rem;font-weight:700}form{display:grid;gap:.7rem;margin:1.5rem 0}"
    "button{min-height:48px;border:1px solid #12211c;border-radius:4px;background:#fff;color:inherit;font:inherit;cursor:pointer}"
    "input{box-sizing:border-box;width:100%;min-height:44px;padding:0 .7rem;border:1px solid #12211c;border-radius:4px;font:inherit}"
    "button.yes{border-color:#0b6b50;background:#0b6b50;color:#fff}a{color:inherit}small{color:#4b5b55}"
)


def html_page(title: str, content: str, status: int = 200) -> Response:
    """One page, in the bank's own look."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title} - Sandbox Bank</title><style>{_STYLE}</style></head><body><main>"
        f'<p class="bank">Sandbox Bank</p><h1>{title}</h1>{content}<small>A bank of the sandbox. No money moves here.</small>'
        "</main></body></html>"
    )
    return Response(text.encode(), status, HTML, HEADERS)
