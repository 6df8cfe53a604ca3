"""Heads: what a request's must be, and how an answer's is written. Pure.

The parser refuses what RFC 9112 calls malformed: bare CR or LF, folded lines, blanks before a colon, a length that is no
number or is given twice, a length beside a transfer coding, a coding that is not `chunked`. Here is what it lets through.
"""

from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import httptools

from guilder.core.errors import Refusal
from guilder.http_server.limits import HEAD_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX
from guilder.http_server.model import Header, Incoming, Outgoing

# Given twice, these would mean one thing to us and another to whoever stands before us.
_SINGLE: Final = frozenset({
    b"authorization", b"content-length", b"content-type", b"expect", b"host", b"idempotency-key", b"transfer-encoding",
})  # fmt: skip

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def malformed(problem: str) -> Refusal:
    """The refusal of bytes that are no HTTP request."""
    return Refusal(f"Malformed HTTP request: {problem}.")


def head_too_large() -> Refusal:
    """The refusal of a head that is beyond what we keep."""
    return Refusal(f"The request's headers are too large: at most {HEAD_BYTES_MAX} bytes are accepted.", status=431)


def head_late() -> Refusal:
    """The refusal of a head that does not arrive."""
    return Refusal("The request's headers did not arrive in time.", status=408, should_retry=True)


def body_late() -> Refusal:
    """The refusal of a body that does not arrive."""
    return Refusal("The request's body did not arrive in time.", status=408, should_retry=True)


def too_many_connections() -> Refusal:
    """The refusal of one connection more than we serve."""
    return Refusal("Too many connections are open. Please repeat the request.", status=503, type="api_error", should_retry=True)


def failed() -> Refusal:
    """What a request is told whose answer could not be made: an answer never lies (DESIGN 2.6)."""
    return Refusal(
        "The result of this request is not known yet; repeat it with the same idempotency key.",
        status=500, type="api_error", should_retry=True,
    )  # fmt: skip


def read_head(method: str, version: str, url: bytes, headers: Sequence[Header]) -> Incoming:
    """The request that has this head.

    Args:
        headers: names in lower case.

    Raises:
        Refusal: 400 malformed or ambiguous; 414 and 431 beyond a limit.
    """
    if len(url) > URL_BYTES_MAX:
        raise Refusal(f"The request's address is too long: at most {URL_BYTES_MAX} bytes are accepted.", status=414)
    if len(headers) > HEADERS_MAX:
        raise Refusal(f"The request has too many headers: at most {HEADERS_MAX} are accepted.", status=431)
    by_name = dict(headers)
    if len(by_name) != len(headers):
        _check_repeated(headers)
    if version != "1.1":
        if version != "1.0":
            raise malformed(f"HTTP/{version} is not spoken here")
        if b"transfer-encoding" in by_name:
            raise malformed("HTTP/1.0 has no transfer codings")
        by_name.pop(b"expect", None)
    elif b"host" not in by_name:
        raise malformed("the Host header is missing")
    if b"transfer-encoding" in by_name and by_name[b"transfer-encoding"].lower() != b"chunked":
        raise malformed("the only transfer coding is chunked")
    path, query = _address(url)
    return Incoming(method, path, query, by_name)


def _check_repeated(headers: Sequence[Header]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _SINGLE:
            raise malformed(f"the {name.decode()} header stands there twice")
        seen.add(name)


def _address(url: bytes) -> tuple[str, bytes]:
    """Path and query of what stands in the request line: mostly a path, at times a whole address."""
    if url.startswith(b"/"):
        path, _, query = url.partition(b"?")
    else:
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            raise malformed("the address is none") from None
        path, query = parsed.path or b"/", parsed.query or b""
    text = path.decode("latin-1")
    return (unquote(text) if "%" in text else text), query


def head_size(url: bytes, headers: Sequence[Header]) -> int:
    """Bytes of a head, its separators included."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def date_line(epoch_seconds: int) -> bytes:
    """The Date header of this second."""
    return f"date: {formatdate(epoch_seconds, usegmt=True)}\r\n".encode()


def answer_bytes(outgoing: Outgoing, date: bytes, *, close: bool, without_body: bool) -> bytes:
    """Head and body, to be sent at once.

    Args:
        close: the connection ends with this answer.
        without_body: the answer to HEAD, which says what GET's would be.

    Raises:
        ValueError: a header holds CR, LF or NUL: what follows would be read as another header, or as another answer.
    """
    lines = [_STATUS_LINES[outgoing.status], date]
    for name, value in outgoing.headers:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"content-length: %d\r\n" % len(outgoing.body))
    lines.append(b"connection: close\r\n\r\n" if close else b"\r\n")
    head = b"".join(lines)
    ends = len(outgoing.headers) + (5 if close else 4)
    if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
        raise ValueError("a header holds CR, LF or NUL")
    return head if without_body else head + outgoing.body
