"""Security: pure cryptography, key files, types that cannot be printed by accident, signatures of webhooks, and the mask for logs.

Owns:       no table; the format of the key files.
Announces:  nothing.
May import: config, shapes, core; `cryptography`.
Start with: secret.py, then keys.py.
"""

from guilder.core.card_numbers import luhn_valid
from guilder.security.aead import KEY_BYTES, Aead, NotAuthentic, bind
from guilder.security.keys import FileKeyProvider, KeyFileError, KeyProvider, PurposeKeys, Wrapped, make_key_file
from guilder.security.mask import LOG_FIELDS, mask_text, mask_url, masking
from guilder.security.secret import Pan, Secret
from guilder.security.sign import SECRET_BYTES, Signer, webhook_secret

__all__ = [
    "KEY_BYTES",
    "LOG_FIELDS",
    "SECRET_BYTES",
    "Aead",
    "FileKeyProvider",
    "KeyFileError",
    "KeyProvider",
    "NotAuthentic",
    "Pan",
    "PurposeKeys",
    "Secret",
    "Signer",
    "Wrapped",
    "bind",
    "luhn_valid",
    "make_key_file",
    "mask_text",
    "mask_url",
    "masking",
    "webhook_secret",
]
