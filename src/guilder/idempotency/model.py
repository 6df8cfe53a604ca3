"""The claim on a key, and what comes back."""

from msgspec import Struct

from guilder.shapes.facts import Answer


class Claim(Struct, frozen=True, kw_only=True):
    """One request under its key.

    `fingerprint` is an HMAC over method, path and canonical parameters, card numbers replaced by the vault's keyed
    fingerprint and CVCs left out (DESIGN 2.4). `expand` is the request's list as accepted. `deadline` is the instant at which the
    caller stops waiting, None where it has not said: what is not accepted by then is not, and no first byte is sent after it.
    """

    account: str
    livemode: bool
    key: str
    fingerprint: bytes
    request_id: str
    expand: tuple[str, ...] = ()
    deadline: int | None = None


class Result(Struct, frozen=True):
    """What the client is told. `replayed` when the answer stood there before this request."""

    answer: Answer
    replayed: bool = False
