"""Refusals: what we say no to, and how the API says it.

    Refusal                     somebody asked for what cannot be done; carries status, type, code, param, message
    Unavailable                 nothing was stored; try again later (503)
    ResultUnknown               a commit's answer was lost; repeat with the same idempotency key (500)
    InvariantBroken (ensure)    we are wrong; rolls back and calls somebody

Wire types are Stripe's four: api_error, card_error, idempotency_error, invalid_request_error. docs/errors.md lists every code.
"""

from msgspec import Struct

from guilder.core.card_numbers import mask_card_numbers


class ErrorFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One API error as stored and rendered. `payment_intent` and such are rendered beside it by the API from the answer's facts."""

    type: str
    message: str
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    charge: str | None = None
    advice_code: str | None = None
    network_decline_code: str | None = None


class GuilderError(Exception):
    """The root of what Guilder raises on purpose."""


class Refusal(GuilderError):
    """A request that is answered with an error. `should_retry` becomes Stripe-Should-Retry; None leaves the header out.

    A card number that a client sent where none belongs, as an id, is neither shown again nor stored.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",  # noqa: A002 - the wire's own word
        code: str | None = None,
        param: str | None = None,
        decline_code: str | None = None,
        should_retry: bool | None = None,
    ) -> None:
        message = mask_card_numbers(message)
        param = None if param is None else mask_card_numbers(param)
        super().__init__(message)
        self.status = status
        self.should_retry = should_retry
        self.facts = ErrorFacts(type=type, message=message, code=code, param=param, decline_code=decline_code)


def missing(kind: str, id_: str, *, param: str | None = None) -> Refusal:
    """The refusal for an object that this account and mode does not have: 404 in the path, 400 in a parameter."""
    return Refusal(
        f"No such {kind}: '{id_}'", status=400 if param else 404, code="resource_missing", param=param or "id",
    )


class Unavailable(GuilderError):
    """Service is not possible now and nothing can have been stored: 503 with Retry-After."""


class ResultUnknown(GuilderError):
    """A commit may or may not have happened: 500, "repeat with the same idempotency key"."""
