"""The mask for logs: one structlog processor that every log line passes.

Two nets. The first is an allow-list of field names: what is not on it is dropped and only its name is kept. The second
looks at every text that remains, the event and tracebacks included, for what must never be written whatever field it is
in: card numbers, CVCs, API keys, client secrets. Over-masking is cheap, so the patterns are wide.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from guilder.core.card_numbers import MASK, mask_card_numbers
from guilder.security.secret import Secret

# Deeper or longer than this is cut: a log line is for people, and nesting has hidden secrets before.
DEPTH_MAX: Final = 4
ITEMS_MAX: Final = 50
TEXT_MAX: Final = 8_000

HIDDEN: Final = "***"
_BEHIND: Final = re.compile(r"[?#].*", re.DOTALL)

LOG_FIELDS: Final = frozenset({
    # structlog's own
    "event", "level", "timestamp", "logger", "exception", "stack",
    # who and where
    "role", "pid", "sender", "epoch", "process", "host", "port", "path", "method", "route", "version", "signal",
    # which object; ids are pseudonyms
    "account", "livemode", "request_id", "payment", "attempt", "charge", "refund", "customer", "payment_method", "key_id",
    "transfer", "ledger_account", "chain", "reference", "stan", "mti", "connector", "operation", "consumer", "partition",
    "position", "topic", "event_id", "event_type", "crash_point",
    # what happened
    "status", "state", "before", "after", "outcome", "code", "decline_code", "response_code", "reason", "result", "attempts",
    "amount_minor", "currency", "brand", "last4", "count", "limit", "rows", "bytes", "seconds", "milliseconds", "retry_at",
    "age_seconds", "generation", "sqlstate", "error", "error_type", "invariant", "problem", "restarts", "fault", "seed",
    "job", "tries", "dead_letter", "key", "link", "why", "peer", "outline", "frame", "failures",
    # webhooks; of an address only its endpoint's id
    "endpoint",
})  # fmt: skip
"""Every field name that a log line may carry. A new one is added here, with a thought about what it will hold."""

_CVC: Final = re.compile(r"(?i)\b((?:cvc|cvv|cvn|cvc2|cvv2|csc|security_code)\W{1,6})[0-9]{3,4}\b")
_API_KEY: Final = re.compile(r"\b((?:sk|rk|pk)_(?:test|live)_|whsec_)[A-Za-z0-9_+/=]{4,}")
_CLIENT_SECRET: Final = re.compile(r"(_secret_)[A-Za-z0-9]{4,}")
_AUTHORIZATION: Final = re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9_\-.~+/=]{8,}")
_PASSWORD: Final = re.compile(r"(?i)((?:postgres(?:ql)?|redis|amqp)://[^:/@\s]*:)[^@\s]+@")


def mask_url(url: str) -> str:
    """The address without who asks and what is said with it, since passwords and keys stand in either."""
    scheme, _, rest = url.partition("://")
    place = _BEHIND.sub("", rest)
    query = rest[len(place) :]
    if "@" in query:
        # A password with a question mark in it, as it may be, is not told from a query.
        return f"{scheme}://{HIDDEN}"
    who, at, host = place.rpartition("@")
    names = (one.partition("=") for one in query[1:].split("&"))
    said = "&".join(f"{name}={HIDDEN}" if equals else HIDDEN for name, equals, _ in names) if query else ""
    return f"{scheme}://{HIDDEN if who else ''}{at}{host}{query[:1]}{said}"


def mask_text(text: str) -> str:
    """The text without card numbers, CVCs that are named so, API keys, client secrets and passwords in addresses."""
    text = mask_card_numbers(text[:TEXT_MAX])
    text = _CVC.sub(rf"\g<1>{MASK}", text)
    text = _AUTHORIZATION.sub(rf"\g<1>{MASK}", text)
    text = _API_KEY.sub(rf"\g<1>{MASK}", text)
    text = _CLIENT_SECRET.sub(rf"\g<1>{MASK}", text)
    return _PASSWORD.sub(rf"\g<1>{MASK}@", text)


def _mask(value: object, depth: int) -> object:
    """A value as it may be written: plain types stay, everything else becomes masked text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        text = str(value)
        return value if mask_text(text) == text else MASK
    if isinstance(value, Secret | bytes | bytearray | memoryview):
        return MASK
    if depth > 0 and isinstance(value, Mapping):
        names = list(value)[:ITEMS_MAX]
        return {mask_text(str(name)): _mask(value[name], depth - 1) if str(name) in LOG_FIELDS else MASK for name in names}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [_mask(item, depth - 1) for item in list(value)[:ITEMS_MAX]]
    return mask_text(str(value))


Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]


def masking(allowed: frozenset[str] = LOG_FIELDS) -> Processor:
    """The structlog processor. Put it last before the renderer, behind the one that formats exceptions."""

    def process(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401
        kept: dict[str, Any] = {name: _mask(value, DEPTH_MAX) for name, value in entry.items() if name in allowed}
        dropped = sorted(name for name in entry if name not in allowed)
        if dropped:
            kept["dropped"] = [mask_text(name) for name in dropped[:ITEMS_MAX]]
        return kept

    return process
