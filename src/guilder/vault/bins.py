"""What the first digits of a card number say: brand, funding, country, and how long number and CVC must be.

A fixed table: good free lists of all issuers do not exist, and nothing that moves money depends on this one. Ranges after
the schemes' public rules (ISO/IEC 7812); funding and country are known for the sandbox's cards only, else unknown.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct


class Brand(Struct, frozen=True):
    """A card scheme: its ranges (first and last prefix, of equal length), the lengths of its numbers and of its CVCs."""

    name: str
    ranges: tuple[tuple[str, str], ...]
    lengths: tuple[int, ...]
    cvc_digits: tuple[int, ...] = (3,)


# Three digits are accepted for American Express too: some of its issuers print only those.
BRANDS: Final = (
    Brand("visa", (("4", "4"),), (13, 16, 19)),
    Brand("mastercard", (("51", "55"), ("2221", "2720")), (16,)),
    Brand("amex", (("34", "34"), ("37", "37")), (15,), (3, 4)),
    Brand("discover", (("6011", "6011"), ("644", "649"), ("65", "65")), (16, 17, 18, 19)),
    Brand("diners", (("300", "305"), ("3095", "3095"), ("36", "36"), ("38", "39")), (14, 15, 16, 17, 18, 19)),
    Brand("jcb", (("3528", "3589"),), (16, 17, 18, 19)),
    Brand("unionpay", (("62", "62"), ("81", "81")), (16, 17, 18, 19)),
)
UNKNOWN: Final = Brand("unknown", (), (12, 13, 14, 15, 16, 17, 18, 19), (3, 4))

FUNDING: Final[Mapping[str, str]] = {
    "400005": "debit",
    "520082": "debit",
    "601198": "debit",
    "510510": "prepaid",
}

COUNTRIES: Final[Mapping[str, str]] = {
    "400005": "US",
    "401288": "US",
    "410000": "US",
    "424242": "US",
    "222300": "US",
    "510510": "US",
    "520082": "US",
    "555555": "US",
    "371449": "US",
    "378282": "US",
    "305693": "US",
    "362272": "US",
    "601100": "US",
    "601111": "US",
    "601198": "US",
    "356600": "JP",
    "620000": "CN",
}

# The sandbox's issuer 400000 writes the country into the next three digits, by its ISO 3166 number; 000 is the US.
SANDBOX_ISSUER: Final = "400000"
ISO_3166: Final[Mapping[str, str]] = {
    "000": "US", "840": "US", "032": "AR", "076": "BR", "124": "CA", "152": "CL", "170": "CO", "188": "CR", "218": "EC",
    "484": "MX", "591": "PA", "600": "PY", "604": "PE", "858": "UY", "784": "AE", "040": "AT", "056": "BE", "100": "BG",
    "112": "BY", "191": "HR", "196": "CY", "203": "CZ", "208": "DK", "233": "EE", "246": "FI", "250": "FR", "276": "DE",
    "292": "GI", "300": "GR", "348": "HU", "352": "IS", "372": "IE", "380": "IT", "428": "LV", "438": "LI", "440": "LT",
    "442": "LU", "470": "MT", "528": "NL", "578": "NO", "616": "PL", "620": "PT", "642": "RO", "703": "SK", "705": "SI",
    "724": "ES", "752": "SE", "756": "CH", "792": "TR", "826": "GB", "036": "AU", "156": "CN", "344": "HK", "356": "IN",
    "392": "JP", "458": "MY", "554": "NZ", "702": "SG", "710": "ZA", "764": "TH", "158": "TW", "682": "SA",
}  # fmt: skip


def brand_of(digits: str) -> Brand:
    """The scheme that a number belongs to, by its first digits."""
    for brand in BRANDS:
        for first, last in brand.ranges:
            if first <= digits[: len(first)] <= last:
                return brand
    return UNKNOWN


def funding_of(digits: str) -> str:
    """credit, debit, prepaid; unknown for a number of no known scheme."""
    return FUNDING.get(digits[:6]) or ("unknown" if brand_of(digits) is UNKNOWN else "credit")


def country_of(digits: str) -> str | None:
    """The issuer's country as two letters; None when the table does not know it."""
    if digits.startswith(SANDBOX_ISSUER):
        return ISO_3166.get(digits[6:9])
    return COUNTRIES.get(digits[:6])
