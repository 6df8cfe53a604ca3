"""Who calls: the API key in `Authorization`, as Bearer or as the user of Basic, the way curl sends it."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Final

from guilder.api.http import Headers
from guilder.core.errors import Refusal
from guilder.merchants import Caller

# Ours have about 60 characters; what is much longer is no key of anybody's.
KEY_CHARACTERS_MAX: Final = 256
# How much of a wrong key a message shows: enough to recognise it, nothing to use it.
SHOWN_HEAD: Final = 8
SHOWN_TAIL: Final = 4

Authenticate = Callable[[str], Awaitable[Caller | None]]


async def caller_of(headers: Headers, authenticate: Authenticate) -> Caller:
    """The caller.

    Raises:
        Refusal: 401 without a key or with a wrong one; 403 when the request names another account.
    """
    key = _key(headers.get(b"authorization", b""))
    caller = await authenticate(key) if len(key) <= KEY_CHARACTERS_MAX and key.isascii() and key.isprintable() else None
    if caller is None:
        raise Refusal(f"Invalid API Key provided: {_masked(key)}", status=401)
    for name in (b"stripe-account", b"stripe-context"):
        account = headers.get(name, b"").decode("latin-1").strip()
        if account and account != caller.account:
            raise Refusal(
                "The provided key does not have access to the account that the request names (or that account does not exist).",
                status=403,
                code="account_invalid",
            )
    return caller


def _key(header: bytes) -> str:
    scheme, _, rest = header.strip().partition(b" ")
    text = rest.strip().decode("latin-1")
    if scheme.lower() == b"basic":
        try:
            text = base64.b64decode(text, validate=True).decode("latin-1").partition(":")[0]
        except (binascii.Error, ValueError):
            text = ""
    elif scheme.lower() != b"bearer":
        text = ""
    if not text:
        raise Refusal(
            "You did not provide an API key. Provide it in the Authorization header, using Bearer auth "
            "(e.g. 'Authorization: Bearer YOUR_SECRET_KEY') or as the user of Basic auth.",
            status=401,
        )
    return text


def _masked(key: str) -> str:
    """A wrong key as a message shows it."""
    if len(key) <= SHOWN_HEAD + SHOWN_TAIL or not (key.isascii() and key.isprintable()):
        return "*" * 12
    return f"{key[:SHOWN_HEAD]}{'*' * 12}{key[-SHOWN_TAIL:]}"


def secret_key_required() -> Refusal:
    """The refusal of a publishable key where only a secret one may go."""
    return Refusal(
        "This API call cannot be made with a publishable API key. Please use a secret API key.",
        status=403,
        code="secret_key_required",
    )
