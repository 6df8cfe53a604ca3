"""Authentication: the proof that an issuer gives, and how it knows it again.

A proof names its authentication and bears the issuer's mark, made with a key that only the truth file has: nobody else
can make one. It holds for the account, amount and currency that were authenticated, once.
"""

from hashlib import blake2b
from typing import Final

from guilder.network.books import Books
from guilder.network.issuer import Account

# Bytes of the mark: nobody guesses 80 bits, and the whole proof stays short.
MARK_BYTES: Final = 10
REFERENCE_CHARACTERS: Final = 12


def mark(books: Books, purpose: str, acquirer: str, reference: str) -> str:
    """The issuer's mark under a reference, for one purpose."""
    text = f"{purpose}:{acquirer}:{reference}".encode()
    return blake2b(text, key=books.scheme.digest_key, digest_size=MARK_BYTES).hexdigest()


def proof_of(books: Books, acquirer: str, reference: str) -> str:
    """The proof that an authentication which passed gives."""
    return reference + mark(books, "proof", acquirer, reference)


def proved_by(books: Books, acquirer: str, proof: str, account: Account, amount: int, currency: str) -> str | None:
    """The reference of the authentication that this proof is of; empty without a proof, None for one that does not hold."""
    if not proof:
        return ""
    reference = proof[:REFERENCE_CHARACTERS]
    operation, standing = books.find(acquirer, reference), books.authentication(acquirer, reference)
    if operation is None or standing is None or not standing.proves or standing.used:
        return None
    if proof != proof_of(books, acquirer, reference):
        return None
    same = operation.account is account and operation.amount == amount and operation.currency == currency
    return reference if same else None
