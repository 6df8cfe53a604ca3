"""The issuer's page at which a buyer answers a challenge: plain HTML, one form, no script, no cookie, in his browser's language.

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
from guilder.network.words import ENGLISH, Words, words_for
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
        words = words_for(request.headers.get("accept-language", ""))
        if challenge is None:
            return html_page(words.nothing, f"<p>{words.nothing_text}</p>", 404, words)
        if request.method == "POST":
            return self._answered(challenge, request, words)
        if request.method != "GET":
            return html_page(words.impossible, f"<p>{words.impossible_text}</p>", 405, words)
        if challenge.standing.result != Authenticated.CHALLENGE:
            return html_page(words.answered, f"<p>{words.answered_text}</p>{_back(challenge, words)}", 200, words)
        return html_page(words.question, _question(challenge, words), 200, words)

    def _answered(self, challenge: Challenge, request: Request, words: Words) -> Response:
        given = parse_qs(request.body.decode("latin-1")).get("answer", [""])[0]
        if given not in _ANSWERS:
            return html_page(words.question, _question(challenge, words), 400, words)
        self._world.answer_challenge(challenge, passed=_ANSWERS[given])
        if not self._world.truth.sync():
            return html_page(words.moment, f"<p>{words.moment_text}</p>", 503, words)
        location = ("Location", challenge.standing.returns_to)
        return Response(b"", 303, HTML, (location, *HEADERS))


def _question(challenge: Challenge, words: Words) -> str:
    operation = challenge.operation
    account = operation.account
    waits = words.waits.format(card=escape(account.masked[-4:] if account else ""))
    return (
        f'<p class="amount">{amount_of(operation.amount, operation.currency, words)}</p>'
        f"<p>{waits}</p>"
        f'<form method="post"><button name="answer" value="pass" class="yes">{words.yes}</button>'
        f'<button name="answer" value="fail">{words.no}</button></form>'
        f"{_back(challenge, words)}"
    )


def amount_of(amount_minor: int, letters: str, words: Words = ENGLISH) -> str:
    """An amount as a buyer reads it."""
    currency = BY_NUMBER[BY_LETTERS[letters]]
    whole, part = divmod(amount_minor, 10**currency.decimals)
    amount = f"{whole:,}".replace(",", words.thousands) + (f"{words.decimal}{part:0{currency.decimals}d}" if currency.decimals else "")
    return f"{amount} {letters.upper()}"


def _back(challenge: Challenge, words: Words) -> str:
    return f'<p><a href="{escape(challenge.standing.returns_to, quote=True)}">{words.back}</a></p>'


_STYLE: Final = (
    "body{margin:0;min-height:100vh;display:grid;place-items:center;background:#eef1f0;color:#12211c;font:17px/1.5 system-ui,sans-serif}"
    "main{box-sizing:border-box;width:min(26rem,94vw);padding:2rem;background:#fff;border-top:6px solid #0b6b50;border-radius:6px}"
    "h1{margin:0 0 1rem;font-size:1.3rem}.bank{margin:0 0 1.5rem;color:#0b6b50;font-weight:700}"
    ".amount{margin:0;font-size:1.9rem;font-weight:700}form{display:grid;gap:.7rem;margin:1.5rem 0}"
    "button{min-height:48px;border:1px solid #12211c;border-radius:4px;background:#fff;color:inherit;font:inherit;cursor:pointer}"
    "input{box-sizing:border-box;width:100%;min-height:44px;padding:0 .7rem;border:1px solid #12211c;border-radius:4px;font:inherit}"
    "button.yes{border-color:#0b6b50;background:#0b6b50;color:#fff}a{color:inherit}small{color:#4b5b55}"
)


def html_page(title: str, content: str, status: int = 200, words: Words = ENGLISH) -> Response:
    """One page, in the bank's own look."""
    text = (
        f'<!doctype html><html lang="{words.tag}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title} - Sandbox Bank</title><style>{_STYLE}</style></head><body><main>"
        f'<p class="bank">Sandbox Bank</p><h1>{title}</h1>{content}<small>{words.sandbox}</small>'
        "</main></body></html>"
    )
    return Response(text.encode(), status, HTML, HEADERS)
