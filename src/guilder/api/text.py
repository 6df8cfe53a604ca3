"""Rules for texts that have a form: addresses, descriptors; and metadata as facts hold it."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import UnsetType

from guilder.core.errors import Refusal
from guilder.shapes.facts import Metadata

URL_CHARACTERS_MAX: Final = 2_048
EMAIL_CHARACTERS_MAX: Final = 512
# What a card statement has room for, by the schemes' rules.
DESCRIPTOR_CHARACTERS_MAX: Final = 22

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_NOT_IN_DESCRIPTORS: Final = re.compile(r"[<>\\'\"*]|[^\x20-\x7e]")
# Addresses that a browser would run instead of going there.
_DANGEROUS_SCHEMES: Final = frozenset({"javascript", "data", "vbscript", "file", "blob"})


def pairs(metadata: Mapping[str, str | None] | UnsetType | None) -> Metadata:
    """Metadata of a new object; what is unset is not there."""
    if not metadata:
        return ()
    return tuple((key, value) for key, value in metadata.items() if value is not None)


def check_email(value: str | UnsetType | None, param: str) -> None:
    """Refuse what cannot be an address (400 email_invalid); whether it receives mail nobody can know."""
    if not isinstance(value, str):
        return
    if len(value) > EMAIL_CHARACTERS_MAX or not _EMAIL.fullmatch(value):
        raise Refusal(f"Invalid email address: '{param}' must look like name@example.com.", code="email_invalid", param=param)


def check_url(value: str | UnsetType | None, param: str) -> None:
    """Refuse what is no absolute address (400 url_invalid). Schemes of apps are allowed, those that run code are not."""
    if not isinstance(value, str):
        return
    try:
        parts = urlsplit(value)
        is_web = parts.scheme in ("http", "https")
        good = bool(parts.scheme) and (bool(parts.hostname) if is_web else parts.scheme not in _DANGEROUS_SCHEMES)
    except ValueError:
        good = False
    if not good or len(value) > URL_CHARACTERS_MAX or any(character <= " " or character == "\x7f" for character in value):
        raise Refusal(
            f"Not a valid URL: '{param}' must be an absolute address such as https://example.com/return.",
            code="url_invalid",
            param=param,
        )


def check_descriptor(value: str | UnsetType | None, param: str) -> None:
    """Refuse what cannot stand on a card statement."""
    if not isinstance(value, str):
        return
    if len(value) > DESCRIPTOR_CHARACTERS_MAX or _NOT_IN_DESCRIPTORS.search(value) or not any(one.isalpha() for one in value):
        raise Refusal(
            f"Invalid {param}: at most {DESCRIPTOR_CHARACTERS_MAX} Latin characters, at least one letter, none of < > \\ ' \" *.",
            param=param,
        )
