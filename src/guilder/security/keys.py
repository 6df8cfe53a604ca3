"""Keys: where the root keys come from, and the keys that are derived from them, one per purpose.

Two root keys, in files of their own (DESIGN section 11):

    master key    the vault's alone; wraps the data keys, which stand wrapped in the database
    app key       everyone else's; hashes of API keys, idempotency fingerprints, personal records

A key file holds one line: `guilder-key-1 <64 hexadecimal digits>`. It belongs to its user alone (0600).
"""

import hmac
import os
import secrets
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from guilder.security.aead import KEY_BYTES, Aead, bind

FILE_HEADER: Final = "guilder-key-1"
FILE_MODE: Final = 0o600
OTHERS: Final = 0o077
# Long enough that two keys never share one by chance, short enough for a column.
KEY_ID_BYTES: Final = 8
# As many as a signing secret is made of.
LISTEN_BYTES: Final = 30
# Larger than any key file; whatever is longer is some other file.
FILE_BYTES_MAX: Final = 1_024


class KeyFileError(Exception):
    """A key file is missing, unreadable, open to others, or not a key file. The message never holds a part of the key."""


class Wrapped(Struct, frozen=True):
    """A data key sealed under a root key: safe to store."""

    root_key_id: str
    sealed: bytes


class KeyProvider(Protocol):
    """Holds a root key that never leaves it: a file here, a key service or a hardware module elsewhere."""

    @property
    def root_key_id(self) -> str:
        """Names the root key that `wrap` uses, without saying anything about it."""
        ...

    def wrap(self, data_key: bytes, place: bytes) -> Wrapped:
        """Seal a data key for its place."""
        ...

    def unwrap(self, wrapped: Wrapped, place: bytes) -> bytes:
        """The data key. Raises NotAuthentic when it was altered, moved, or wrapped under another root key."""
        ...


def derive(root: bytes, purpose: str) -> bytes:
    """A key of its own for a purpose (RFC 5869), so that no two uses share one."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=bind("guilder", purpose)).derive(root)


def make_key_file(path: Path, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> bool:
    """Write a new key to a file that does not exist yet; True if it was made now.

    Whole or not at all, and safe to call from several processes: the first to link its file wins, the others find it.
    """
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{random_bytes(KEY_ID_BYTES).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{FILE_HEADER} {random_bytes(KEY_BYTES).hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut: data sealed under a key that is lost is lost."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_key_file(path: Path) -> bytes:
    """The key in a file.

    Raises:
        KeyFileError: there is none, others may read it, or it is not a key file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & OTHERS:
            raise KeyFileError(f"the key file {path} is open to others; set its mode to 0600")
        words = file.read(FILE_BYTES_MAX).split()
    try:
        header, key = words[0].decode(), bytes.fromhex(words[1].decode())
    except (IndexError, ValueError):
        raise KeyFileError(f"{path} is not a key file") from None
    if header != FILE_HEADER or len(key) != KEY_BYTES or len(words) != 2:  # noqa: PLR2004 - header and key
        raise KeyFileError(f"{path} is not a key file")
    return key


class FileKeyProvider:
    """The root key of a file, held in this process's memory."""

    def __init__(self, path: Path, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """Read the key. Raises KeyFileError."""
        root = read_key_file(path)
        self._aead = Aead(derive(root, "wrap"), random_bytes)
        self._root_key_id = derive(root, "name")[:KEY_ID_BYTES].hex()

    @property
    def root_key_id(self) -> str:
        return self._root_key_id

    def wrap(self, data_key: bytes, place: bytes) -> Wrapped:
        return Wrapped(self._root_key_id, self._aead.seal(data_key, place))

    def unwrap(self, wrapped: Wrapped, place: bytes) -> bytes:
        return self._aead.open(wrapped.sealed, place)


class PurposeKeys:
    """What everyone but the vault needs of the app key. Each purpose has a key of its own, derived when first used."""

    def __init__(self, app_key: bytes, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        if len(app_key) != KEY_BYTES:
            raise ValueError("the app key must have 32 bytes")
        self._root = app_key
        self._random_bytes = random_bytes

    @classmethod
    def of_file(cls, path: Path) -> "PurposeKeys":
        """Of the app key's file. Raises KeyFileError."""
        return cls(read_key_file(path))

    def __repr__(self) -> str:
        return "PurposeKeys(***)"

    @cached_property
    def _api_key(self) -> bytes:
        return derive(self._root, "api key")

    @cached_property
    def _idempotency(self) -> bytes:
        return derive(self._root, "idempotency fingerprint")

    @cached_property
    def _lookup(self) -> bytes:
        return derive(self._root, "personal lookup")

    @cached_property
    def _form(self) -> bytes:
        return derive(self._root, "page form")

    @cached_property
    def personal(self) -> Aead:
        """Seals personal records."""
        return Aead(derive(self._root, "personal"), self._random_bytes)

    @cached_property
    def webhooks(self) -> Aead:
        """Seals the signing secrets of webhook endpoints."""
        return Aead(derive(self._root, "webhooks"), self._random_bytes)

    def listen_secret(self, account: str, *, livemode: bool) -> bytes:
        """What the signing secret of `guilder listen` is made of: the same one each time, so that it can stand in a file."""
        place = bind(account, "live" if livemode else "test")
        return hmac.digest(derive(self._root, "listen"), place, "sha256")[:LISTEN_BYTES]

    def api_key_hash(self, secret: str) -> bytes:
        """What is stored of an API key. The key is 256 random bits, so a fast keyed hash is enough."""
        return hmac.digest(self._api_key, secret.encode(errors="surrogatepass"), "sha256")

    def fingerprint(self, canonical: bytes) -> bytes:
        """The idempotency fingerprint of a request's canonical parameters."""
        return hmac.digest(self._idempotency, canonical, "sha256")

    def form_token(self, *parts: str) -> str:
        """What a form of the payment page bears, so that only somebody who was shown that form can send it."""
        return hmac.digest(self._form, bind(*parts), "sha256")[:16].hex()

    def lookup(self, *parts: str) -> bytes:
        """A value by which a personal field can be found (a customer by mail) without standing in the database."""
        return hmac.digest(self._lookup, bind(*parts), "sha256")
