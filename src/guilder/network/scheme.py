"""The card scheme's switch: which issuer a number belongs to, and the accounts that each issuer keeps."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final
from zlib import crc32

from msgspec import Struct

from guilder.core.clock import SECOND
from guilder.network.cards import CARDS
from guilder.network.entries import AccountsAdded
from guilder.network.errors import BadRequest
from guilder.network.issuer import Account, luhn_check_digit, passes_luhn

# First two digits -> issuer. One bank for each brand is enough: issuers differ by their accounts, not by their code.
_ROUTES: Final[Mapping[str, str]] = {
    **{f"4{digit}": "visa" for digit in range(10)},
    **{str(prefix): "mastercard" for prefix in (*range(22, 28), *range(51, 56))},
    **dict.fromkeys(("34", "37"), "amex"),
    **dict.fromkeys(("60", "64", "65"), "discover"),
    **dict.fromkeys(("30", "36", "38"), "diners"),
    "35": "jcb",
    "62": "unionpay",
}
# Digits of the numbers that are made for a BIN.
NUMBER_LENGTH: Final = 16
BIN_LENGTH_MIN: Final = 6
BIN_LENGTH_MAX: Final = 9
# Accounts in one request. An account costs about 0.7 kB, so this bounds what one request can cost us to 70 MB.
COUNT_MAX: Final = 100_000


class Issuer(Struct):
    """A bank that issues cards. `unnumbered`: accounts that are known only by the keyed digest of their number."""

    name: str
    accounts: dict[str, Account] = {}
    unnumbered: dict[str, Account] = {}


class Scheme:
    """Routes numbers to issuers. Knows the sandbox's cards from the start; more can be added.

    Numbers that somebody adds are never written to disk: a run of generated ones is stored as BIN and count, a given
    one as a digest under a key that only the truth file has.
    """

    def __init__(self) -> None:
        self._issuers = {name: Issuer(name) for name in set(_ROUTES.values())}
        self._by_prefix = {prefix: self._issuers[name] for prefix, name in _ROUTES.items()}
        self._digest_key = b""
        self._next_sequence: dict[str, int] = {}
        self._by_name: dict[str, Account] = {}
        for number, (name, terms) in CARDS.items():
            self._open(number, Account(name=name, masked=mask(number), terms=terms))

    def use_key(self, key: bytes) -> None:
        """The key for digests of given numbers; drawn once for each truth file."""
        self._digest_key = key

    @property
    def digest_key(self) -> bytes:
        """The key of this truth file, for what only its issuers can make."""
        return self._digest_key

    def find(self, number: str) -> Account | None:
        """The account of a card number; None when nobody issued it."""
        issuer = self._by_prefix.get(number[:2])
        if issuer is None:
            return None
        account = issuer.accounts.get(number)
        if account is None and issuer.unnumbered:
            account = issuer.unnumbered.get(self.digest(number))
            if account is not None:
                issuer.accounts[number] = account
        return account

    def named(self, name: str) -> Account | None:
        """The account of a name."""
        return self._by_name.get(name)

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """All accounts, each with its issuer's name."""
        for issuer in self._issuers.values():
            seen = {account.name: account for account in (*issuer.accounts.values(), *issuer.unnumbered.values())}
            for account in seen.values():
                yield issuer.name, account

    def digest(self, number: str) -> str:
        """What stands in the truth file for a given number."""
        return blake2b(number.encode(), key=self._digest_key, digest_size=16).hexdigest()

    def plan_run(self, bin_: str, count: int) -> int:
        """The sequence number that a new run of generated numbers starts at. Raises BadRequest."""
        if not (bin_.isdigit() and bin_.isascii() and BIN_LENGTH_MIN <= len(bin_) <= BIN_LENGTH_MAX):
            raise BadRequest(f"`bin` must have {BIN_LENGTH_MIN} to {BIN_LENGTH_MAX} digits")
        if bin_[:2] not in self._by_prefix:
            raise BadRequest("`bin` belongs to no issuer of this scheme")
        if not 1 <= count <= COUNT_MAX:
            raise BadRequest(f"`count` must be 1 to {COUNT_MAX}")
        first = self._next_sequence.get(bin_, 1)
        if len(str(first + count)) > NUMBER_LENGTH - 1 - len(bin_):
            raise BadRequest("this `bin` has no numbers left")
        return first

    def plan_given(self, number: str) -> None:
        """Check that an account with this number can be opened. Raises BadRequest."""
        if not (number.isascii() and number.isdigit() and 12 <= len(number) <= 19 and passes_luhn(number)):
            raise BadRequest("`number` must have 12 to 19 digits and pass Luhn")
        if number[:2] not in self._by_prefix:
            raise BadRequest("`number` belongs to no issuer of this scheme")
        if self.find(number):
            raise BadRequest("an account with this `number` exists")

    def add(self, added: AccountsAdded, number: str | None = None) -> list[str]:
        """Open the accounts of an entry and return their numbers. Without its number a given one is known by digest."""
        if not added.bin:
            account = Account(name=added.name, masked=added.masked, terms=added.terms)
            self._by_name[account.name] = account
            issuer = self._by_prefix[added.masked[:2]]
            issuer.unnumbered[added.digest] = account
            return [number] if number else []
        numbers = []
        for sequence in range(added.first, added.first + added.count):
            number = generated_number(added.bin, sequence)
            if self.find(number) is None:
                numbers.append(number)
                self._open(number, Account(name=f"{added.bin}-{sequence}", masked=mask(number), terms=added.terms))
        self._next_sequence[added.bin] = added.first + added.count
        return numbers

    def _open(self, number: str, account: Account) -> None:
        self._by_prefix[number[:2]].accounts[number] = account
        self._by_name[account.name] = account


def generated_number(bin_: str, sequence: int) -> str:
    """The card number of a place in a BIN's sequence."""
    payload = f"{bin_}{sequence:0{NUMBER_LENGTH - 1 - len(bin_)}d}"
    return payload + luhn_check_digit(payload)


def mask(number: str) -> str:
    """A card number as it may be shown."""
    return f"{number[:6]}******{number[-4:]}"


def transaction_id(reference: str, at: int) -> str:
    """The scheme's id of an operation, 15 digits: worked out again whenever it is asked for, so it need not be kept."""
    return f"{at // SECOND % 1_000_000:06d}{crc32(reference.encode()) % 1_000_000_000:09d}"


def authorization_code(reference: str) -> str:
    """The issuer's approval code of an operation; worked out again likewise."""
    return f"{crc32(reference.encode(), 1) & 0xFFFFFF:06X}"
