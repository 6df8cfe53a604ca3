"""The few pages of the buyer's way, and the redirects between them. Plain HTML, our own look, nothing from elsewhere."""

from html import escape
from typing import Final
from urllib.parse import quote

from guilder.http_server import Outgoing

_HEADERS: Final = (
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
)
# What an address may hold as it is: RFC 3986's reserved characters, and what is percent-encoded already.
_URL: Final = ":/?#[]@!$&'()*+,;=%-._~"
_STYLE: Final = (
    "body{margin:0;min-height:100vh;display:grid;place-items:center;background:#f6f7f9;color:#16181d;font:17px/1.5 system-ui,sans-serif}"
    "main{box-sizing:border-box;width:min(26rem,94vw);padding:2rem;background:#fff;border:1px solid #dfe2e8;border-radius:12px}"
    "h1{margin:0 0 .5rem;font-size:1.4rem}p{margin:0 0 1rem}"
    "a{display:block;padding:.7rem;border-radius:8px;background:#16181d;color:#fff;text-align:center;text-decoration:none}"
)


def page(
    title: str, text: str, *, status: int = 200, link: tuple[str, str] | None = None, again: int | None = None,
) -> Outgoing:  # fmt: skip
    """One page. `text` is HTML; `link` an address and its words; `again`: it reloads itself after so many seconds."""
    refresh = f'<meta http-equiv="refresh" content="{again}">' if again is not None else ""
    way = f'<a href="{escape(link[0])}">{link[1]}</a>' if link is not None else ""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"{refresh}<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1><p>{text}</p>{way}</main></body></html>"
    )
    return Outgoing(body=html.encode(), status=status, headers=((b"Content-Type", b"text/html; charset=utf-8"), *_HEADERS))


def redirect(url: str) -> Outgoing:
    """Go there, with GET."""
    return Outgoing(body=b"", status=303, headers=((b"Location", quote(url, safe=_URL).encode()), *_HEADERS))
