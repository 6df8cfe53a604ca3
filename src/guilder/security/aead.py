"""AES-256-GCM: what is sealed can be opened only under the same key and in the same place.

The place is the associated data: an account, a row's id, a field's name, a key's version. A sealed value that is copied
into another row, field or merchant does not open there.
"""

import secrets
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
# NIST SP 800-38D: 96-bit nonces drawn at random, so at most 2**32 values may be sealed under one key. A data key belongs
# to one merchant and mode, which is far from that many cards.
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
LENGTH_BYTES: Final = 4


class NotAuthentic(Exception):
    """The sealed value was altered, moved to another place, or belongs to another key."""


def bind(*parts: str) -> bytes:
    """The parts of a place as associated data. Each is preceded by its length, so ("ab", "c") differs from ("a", "bc")."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(LENGTH_BYTES, "big") + part for part in encoded)


class Aead:
    """One key that seals and opens. `random_bytes` is the source of the nonces."""

    __slots__ = ("_cipher", "_random_bytes")

    def __init__(self, key: bytes, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("the key must have 32 bytes")
        self._cipher = AESGCM(key)
        self._random_bytes = random_bytes

    def seal(self, plain: bytes, place: bytes) -> bytes:
        """Encrypt for this place: nonce, ciphertext, tag."""
        nonce = self._random_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """The plain bytes.

        Raises:
            NotAuthentic: the bytes are not what `seal` made for this place under this key.
        """
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise NotAuthentic("a sealed value is too short")
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
        except InvalidTag as error:
            raise NotAuthentic("a sealed value does not belong here") from error
