"""What a PSP's answer, or its absence, means. Five values; everything that follows is decided on them (DESIGN section 2).

Unknown is not failed: every failure after the first byte, and every answer that is not on the connector's list of
definite ones, is Unknown. NotSent is proved by the connector's own record that no byte was written, never guessed.
"""

from msgspec import Struct


class Checks(Struct, frozen=True, array_like=True):
    """What the issuer said of the card data: pass, fail, unavailable or unchecked each; None where nothing was sent."""

    cvc: str | None = None
    postal_code: str | None = None
    line1: str | None = None


class Authentication(Struct, frozen=True, array_like=True):
    """The issuer says that it is the buyer, or the scheme answers for it (3-D Secure)."""

    # What the authorization that follows has to carry.
    proof: str
    # False: it could only be attempted; the scheme answers for the issuer.
    authenticated: bool = True
    challenged: bool = False
    # The electronic commerce indicator (ECI).
    indicator: str | None = None
    transaction_id: str | None = None


class Approved(Struct, frozen=True, tag="approved"):
    """Done, definitely. Amount and currency are what the PSP says it did, checked by the connector against the order."""

    psp_reference: str
    authorization_code: str | None = None
    network_transaction_id: str | None = None
    checks: Checks = Checks()
    # The funds count as available at once, as those of the bypassPending test card do.
    available_now: bool = False
    # The PSP may take it back: ask once more after so many seconds.
    ask_again_seconds: int | None = None
    # What an authentication that passed has brought.
    authentication: Authentication | None = None
    # How often beyond the first the PSP says that it has done it: it did not honour the key of a resend.
    surplus: int = 0


class Declined(Struct, frozen=True, tag="declined"):
    """Refused, definitely; nothing was moved, or it was moved back (`advice` returned).

    `code` is ours (a decline code of docs/errors.md), `network_code` theirs.
    """

    code: str
    network_code: str | None = None
    advice: str | None = None
    # The issuer asks for authentication: another try that carries a proof may pass (a "soft decline").
    wants_authentication: bool = False
    psp_reference: str | None = None
    checks: Checks = Checks()


class ActionRequired(Struct, frozen=True, tag="action_required"):
    """The buyer must do something at this address before the operation can go on."""

    url: str


class NotSent(Struct, frozen=True, tag="not_sent"):
    """No byte of the first request was written; why, in a word: connect, breaker_open, expired, no_cvc, fenced."""

    reason: str


class Unknown(Struct, frozen=True, tag="unknown"):
    """It may have happened or not; why we do not know: timeout, reset, unreadable, mismatch, in_progress, psp_error."""

    reason: str


class NotFound(Struct, frozen=True, tag="not_found"):
    """The answer of a query only: the PSP does not know the reference. Not proof of absence."""


Outcome = Approved | Declined | ActionRequired | NotSent | Unknown
QueryOutcome = Approved | Declined | ActionRequired | Unknown | NotFound
