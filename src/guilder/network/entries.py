"""What stands in the truth file: one line for each thing that was decided, enough to rebuild the memory from.

Lines are JSON arrays that begin with their kind. A struct is never changed, only extended at its end with defaults.
"""

from typing import Final

import msgspec
from msgspec import Struct

from guilder.network.issuer import Terms


class Kind:
    """What an operation is; the same words in the truth and in DE 48 tag KD."""

    AUTHORIZATION: Final = "authorization"
    PURCHASE: Final = "purchase"  # an authorization and its capture in one
    CAPTURE: Final = "capture"
    VOID: Final = "void"
    REVERSAL: Final = "reversal"
    REFUND: Final = "refund"
    # Moves nothing: the issuer says whether it is the buyer, at once or after a challenge.
    AUTHENTICATION: Final = "authentication"
    # Not asked for by a message: the buyer has answered the challenge; a refund in progress went through; an approved refund came back.
    CHALLENGE_ANSWERED: Final = "challenge_answered"
    REFUND_SETTLED: Final = "refund_settled"
    REFUND_RETURNED: Final = "refund_returned"


# In `undid`: the original has not come yet; should it come within a day, it is declined. No effect either.
UNDID_IN_ADVANCE: Final = "in_advance"
# In `undid`: a refund in progress that was stopped before it moved money. No effect, so the truth does not show it.
UNDID_REFUND_IN_PROGRESS: Final = "refund_in_progress"


class Opened(Struct, array_like=True, frozen=True, tag="opened"):
    """The first line: the file's format and the key for digests of card numbers, in hexadecimal."""

    format: int
    digest_key: str


class AccountsAdded(Struct, array_like=True, frozen=True, tag="accounts"):
    """Accounts that the control port opened: a run of generated numbers (`bin`), or one given number (`digest`)."""

    at: int
    terms: Terms
    bin: str = ""
    first: int = 0
    count: int = 0
    name: str = ""
    masked: str = ""
    digest: str = ""


class Entry(Struct, array_like=True, frozen=True, tag="did", gc=False):
    """One operation and what the bank world decided about it.

    `original` is the reference that it acts on, `account` the card account's name, `checks` CVC and postcode verdict.
    `undid` lists kind and amount of each effect that a void or a reversal took back. `result` is what came of an
    authentication (DE 48 tag SR) and `returns_to` where its challenge sends the buyer back to; `proof` is the reference
    of the authentication that an authorization was proved with. `repeats`: the request was one that had been carried out
    before, under this reference of its sender's; `reference` is then one of the PSP's own.
    """

    at: int
    kind: str
    acquirer: str
    reference: str
    transmitted: str
    amount: int
    currency: str
    code: str
    original: str = ""
    account: str = ""
    checks: str = ""
    undid: tuple[tuple[str, int], ...] = ()
    result: str = ""
    returns_to: str = ""
    proof: str = ""
    repeats: str = ""


class PageOpened(Struct, array_like=True, frozen=True, tag="page"):
    """The web PSP's form page for a payment: what is to be paid there, under which key, and where the buyer is sent back to."""

    at: int
    acquirer: str
    reference: str
    key: str
    amount: int
    currency: str
    capture: bool
    returns_to: str
    expires_at: int
    descriptor: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


class PageEnded(Struct, array_like=True, frozen=True, tag="page_ended"):
    """A page that was left unpaid for good; `why` is what the merchant is told."""

    at: int
    acquirer: str
    reference: str
    why: str


Line = Opened | AccountsAdded | Entry | PageOpened | PageEnded

# The format that this version writes, and the only one that it reads.
FORMAT: Final = 1

encode_line: Final = msgspec.json.Encoder().encode
decode_line: Final = msgspec.json.Decoder(Line).decode
