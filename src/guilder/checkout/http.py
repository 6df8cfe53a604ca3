"""Answers of the page, with the headers that each of them bears."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from guilder.http_server import Incoming, Outgoing
from guilder.http_server.model import Header

# A form has ten short fields.
BODY_BYTES_MAX: Final = 16 * 1024
# Once a browser has a file under an address that holds its hash, it never asks again.
FOR_EVER: Final = b"public, max-age=31536000, immutable"

# Nothing inline, nothing from elsewhere, in nobody's frame; what a script may not do is not even parsed.
POLICY: Final = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    b"base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_ALWAYS: Final[Sequence[Header]] = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # The address lets its holder pay; no other site is told it.
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-robots-tag", b"noindex"),
)
# What an address may hold as it is: RFC 3986's reserved characters, and what is percent-encoded already.
_URL: Final = ":/?#[]@!$&'()*+,;=%-._~"
_ONLY_HTTPS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


def page(body: bytes, *, status: int = 200, https: bool, language: str = "en", more: Sequence[Header] = ()) -> Outgoing:
    """A page of HTML; never kept by anybody."""
    headers = [
        (b"content-type", b"text/html; charset=utf-8"), (b"content-language", language.encode()), (b"cache-control", b"no-store"), *_ALWAYS,
        *more,
    ]  # fmt: skip
    return _sent(status, headers, body, https=https)


def redirect(location: str, *, https: bool) -> Outgoing:
    """See there, by GET (303), so that a reload repeats nothing."""
    headers = [(b"location", quote(location, safe=_URL).encode()), (b"cache-control", b"no-store"), *_ALWAYS]
    return _sent(303, headers, b"", https=https)


def file(body: bytes, content_type: bytes, *, https: bool) -> Outgoing:
    """A file whose address changes with its content."""
    return _sent(200, [(b"content-type", content_type), (b"cache-control", FOR_EVER), *_ALWAYS], body, https=https)


def _sent(status: int, headers: list[Header], body: bytes, *, https: bool) -> Outgoing:
    if https:
        headers.append(_ONLY_HTTPS)
    return Outgoing(status=status, headers=headers, body=body)


def address_of(incoming: Incoming, proxies: int) -> str:
    """The buyer's address: the peer's, or what the outermost of our proxies says that it saw.

    Whatever stands before that in X-Forwarded-For anybody can have written.
    """
    if proxies == 0:
        return incoming.peer
    seen = [one.strip() for one in incoming.headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",") if one.strip()]
    return seen[-proxies] if len(seen) >= proxies else incoming.peer
