"""Signatures of webhooks, in the two schemes that receivers know. Pure: the secrets, the time and the body are handed in.

    Stripe              Stripe-Signature: t=<unix>,v1=<hex>            HMAC-SHA256 of "<unix>.<body>" under the whole secret as text
    Standard Webhooks   webhook-signature: v1,<base64>                 HMAC-SHA256 of "<id>.<unix>.<body>" under what the secret's
                                                                       base64 stands for, with webhook-id and webhook-timestamp

`whsec_` and base64 serve both. While two secrets are valid each scheme bears two signatures, and a receiver takes either.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

from guilder.security.secret import Secret

PREFIX: Final = "whsec_"
# Standard Webhooks asks for 24 to 64 bytes; a multiple of three needs no padding, which some libraries do not like.
SECRET_BYTES: Final = 30


def webhook_secret(random: bytes) -> Secret:
    """A signing secret of these random bytes; SECRET_BYTES of them."""
    if len(random) != SECRET_BYTES:
        raise ValueError(f"a webhook secret is made of {SECRET_BYTES} bytes")
    return Secret(PREFIX + b64encode(random).decode())


class Signer:
    """Signs under one or two secrets, the newest first; what can be computed before there is a body is."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[Secret]) -> None:
        texts = [secret.reveal() for secret in secrets]
        self._keys = [(text.encode(), b64decode(text.removeprefix(PREFIX))) for text in texts]

    def stripe(self, timestamp: int, body: bytes) -> str:
        """The value of Stripe-Signature; the timestamp in real epoch seconds, a fresh one for each try."""
        signed = b"%d.%b" % (timestamp, body)
        return f"t={timestamp}" + "".join(f",v1={hmac.digest(text, signed, 'sha256').hex()}" for text, _ in self._keys)

    def standard(self, id_: str, timestamp: int, body: bytes) -> str:
        """The value of webhook-signature, for a message of this webhook-id and webhook-timestamp."""
        signed = b"%b.%d.%b" % (id_.encode(), timestamp, body)
        return " ".join("v1," + b64encode(hmac.digest(raw, signed, "sha256")).decode() for _, raw in self._keys)
