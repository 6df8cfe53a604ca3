"""What the vault takes for a card, and how long it keeps a CVC."""

import pytest

from guilder.core.clock import MINUTE, SECOND, ManualClock, Micros
from guilder.security import Pan, Secret
from guilder.vault.bins import brand_of, country_of, funding_of
from guilder.vault.cvcs import CvcMemory
from guilder.vault.model import CardRefused
from guilder.vault.rules import check_card, full_year, refusal

NOW = Micros(1_794_700_800 * SECOND)  # 2026-11-15


@pytest.mark.parametrize(("number", "month", "year", "cvc", "code", "field"), [
    ("4242424242424241", 12, 2030, "314", "incorrect_number", "number"),
    ("424242424242424", 12, 2030, "314", "incorrect_number", "number"),
    ("42424242424242424242", 12, 2030, "314", "incorrect_number", "number"),
    ("5555555555554", 12, 2030, "314", "incorrect_number", "number"),
    ("", 12, 2030, "314", "invalid_number", "number"),
    ("4242abcd42424242", 12, 2030, "314", "invalid_number", "number"),
    ("4242424242424242", 0, 2030, "314", "invalid_expiry_month", "exp_month"),
    ("4242424242424242", 13, 2030, "314", "invalid_expiry_month", "exp_month"),
    ("4242424242424242", -1, 2030, "314", "invalid_expiry_month", "exp_month"),
    ("4242424242424242", 12, 2025, "314", "invalid_expiry_year", "exp_year"),
    ("4242424242424242", 12, 2077, "314", "invalid_expiry_year", "exp_year"),
    ("4242424242424242", 12, 203, "314", "invalid_expiry_year", "exp_year"),
    ("4242424242424242", 12, -5, "314", "invalid_expiry_year", "exp_year"),
    ("4242424242424242", 10, 2026, "314", "invalid_expiry_month", "exp_month"),
    ("4242424242424242", 12, 2030, "31", "invalid_cvc", "cvc"),
    ("4242424242424242", 12, 2030, "3145", "invalid_cvc", "cvc"),
    ("4242424242424242", 12, 2030, "", "invalid_cvc", "cvc"),
    ("4242424242424242", 12, 2030, "31x", "invalid_cvc", "cvc"),
    ("4242424242424241", 13, 2000, "x", "incorrect_number", "number"),
])  # fmt: skip
def test_the_first_thing_that_is_wrong_is_named(number: str, month: int, year: int, cvc: str, code: str, field: str) -> None:
    """Number, month, year, CVC, in this order, each with Stripe's code."""
    assert check_card(Pan(number), month, year, Secret(cvc), NOW) == CardRefused(code, field)


@pytest.mark.parametrize(("number", "month", "year", "cvc"), [
    ("4242 4242 4242 4242", 11, 2026, "314"),
    ("4242424242424242", 1, 27, None),
    ("4242424242424242", 12, 2076, "000"),
    ("378282246310005", 12, 2030, "3141"),
    ("378282246310005", 12, 2030, "314"),
    ("6200000000000005", 12, 2030, "314"),
])  # fmt: skip
def test_a_card_that_can_be_is_taken(number: str, month: int, year: int, cvc: str | None) -> None:
    """To the end of its month; with two digits for the year; with or without a CVC."""
    assert check_card(Pan(number), month, year, None if cvc is None else Secret(cvc), NOW) is None


def test_a_refusal_names_the_parameter_where_the_card_was() -> None:
    """402 card_error as Stripe's."""
    error = refusal(CardRefused("incorrect_number", "number"), "payment_method_data[card]")
    assert error.status == 402
    assert error.facts.type == "card_error"
    assert error.facts.code == "incorrect_number"
    assert error.facts.message == "Your card number is incorrect."
    assert error.facts.param == "payment_method_data[card][number]"


@pytest.mark.parametrize(("number", "brand", "funding", "country"), [
    ("4242424242424242", "visa", "credit", "US"),
    ("4000056655665556", "visa", "debit", "US"),
    ("4000000000009995", "visa", "credit", "US"),
    ("4000002760003184", "visa", "credit", "DE"),
    ("4000002500003155", "visa", "credit", "FR"),
    ("4000008400001629", "visa", "credit", "US"),
    ("5555555555554444", "mastercard", "credit", "US"),
    ("2223003122003222", "mastercard", "credit", "US"),
    ("5105105105105100", "mastercard", "prepaid", "US"),
    ("378282246310005", "amex", "credit", "US"),
    ("6011111111111117", "discover", "credit", "US"),
    ("3056930009020004", "diners", "credit", "US"),
    ("3566002020360505", "jcb", "credit", "JP"),
    ("6200000000000005", "unionpay", "credit", "CN"),
    ("2720990000000000", "mastercard", "credit", None),
    ("2721000000000000", "unknown", "unknown", None),
    ("9000000000000001", "unknown", "unknown", None),
])  # fmt: skip
def test_the_first_digits_tell_brand_funding_and_country(number: str, brand: str, funding: str, country: str | None) -> None:
    """A line per kind of card."""
    assert (brand_of(number).name, funding_of(number), country_of(number)) == (brand, funding, country)


def test_a_year_of_two_digits_is_in_this_century() -> None:
    """As cards print it."""
    assert [full_year(year) for year in (0, 34, 99, 100, 2034, -1)] == [2000, 2034, 2099, 100, 2034, -1]


def test_a_cvc_is_gone_after_fifteen_minutes() -> None:
    """Counted from its entry; reading it does not prolong its life."""
    clock = ManualClock()
    cvcs = CvcMemory(clock)
    cvcs.keep("pm_1", Secret("314"))
    clock.advance(15 * MINUTE - 1)
    assert cvcs.read("pm_1") == Secret("314")
    clock.advance(1)
    assert cvcs.read("pm_1") is None
    assert len(cvcs) == 0


def test_an_idle_vault_forgets_too() -> None:
    """The sweep drops what is over and leaves the rest."""
    clock = ManualClock()
    cvcs = CvcMemory(clock)
    cvcs.keep("pm_1", Secret("314"))
    clock.advance(10 * MINUTE)
    cvcs.keep("pm_2", Secret("315"))
    clock.advance(5 * MINUTE)
    assert cvcs.sweep() == 1
    assert cvcs.read("pm_2") == Secret("315")


def test_a_cvc_entered_again_starts_anew() -> None:
    """The later entry counts, and keeps the order of age."""
    clock = ManualClock()
    cvcs = CvcMemory(clock)
    cvcs.keep("pm_1", Secret("314"))
    cvcs.keep("pm_2", Secret("315"))
    clock.advance(10 * MINUTE)
    cvcs.keep("pm_1", Secret("316"))
    clock.advance(5 * MINUTE)
    assert cvcs.sweep() == 1
    assert cvcs.read("pm_1") == Secret("316")


def test_a_flood_of_cvcs_pushes_out_the_oldest() -> None:
    """The memory is bounded."""
    cvcs = CvcMemory(ManualClock(), kept_max=3)
    for number in range(5):
        cvcs.keep(f"pm_{number}", Secret("314"))
    assert [cvcs.read(f"pm_{number}") is not None for number in range(5)] == [False, False, True, True, True]


def test_a_dropped_cvc_is_overwritten() -> None:
    """Its bytes do not wait for the garbage collector."""
    cvcs = CvcMemory(ManualClock())
    cvcs.keep("pm_1", Secret("314"))
    digits = cvcs._kept["pm_1"]._digits
    cvcs.drop("pm_1")
    assert digits == bytearray(3)
