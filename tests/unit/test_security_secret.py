"""Values that must not be printed."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.security import Pan, Secret, luhn_valid


@pytest.mark.parametrize("number", [
    "4242424242424242", "4000056655665556", "5555555555554444", "378282246310005", "6011111111111117", "3566002020360505",
    "6200000000000005", "30569309025904",
])  # fmt: skip
def test_numbers_of_every_scheme_pass_the_check_digit(number: str) -> None:
    """The published test numbers are valid, and each is wrong with any other last digit."""
    assert luhn_valid(number)
    assert not any(luhn_valid(number[:-1] + digit) for digit in "0123456789" if digit != number[-1])


@pytest.mark.parametrize("text", ["", " ", "42424242x2424242", "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "4242", "4" * 20, "-1"])
def test_what_is_no_number_is_never_valid(text: str) -> None:
    """Letters, other scripts' digits, numbers that are too short or too long."""
    assert not Pan(text).luhn_valid


@given(st.text(alphabet="0123456789", min_size=11, max_size=18))
def test_a_swap_of_neighbours_is_noticed(body: str) -> None:
    """The check digit notices two neighbouring digits that changed places, but for 0 and 9."""
    digits = next(body + digit for digit in "0123456789" if luhn_valid(body + digit))
    for index in range(len(digits) - 1):
        left, right = digits[index], digits[index + 1]
        swapped = digits[:index] + right + left + digits[index + 2 :]
        if left != right and {left, right} != {"0", "9"}:
            assert not luhn_valid(swapped)


def test_blanks_and_hyphens_do_not_count() -> None:
    """A number is the same however it was grouped."""
    assert Pan("4242 4242-4242 4242") == Pan("4242424242424242")
    assert Pan("4242 4242 4242 4242").reveal() == "4242424242424242"


@pytest.mark.parametrize("show", [
    repr, str, "{}".format, "{!r:>40}".format, lambda value: f"{value}", lambda value: repr([value]),
])  # fmt: skip
def test_a_secret_does_not_print_itself(show: object) -> None:
    """Every way of turning it into text gives the mask."""
    assert "hunter2" not in show(Secret("hunter2"))  # type: ignore[operator]
    assert "42424242424" not in show(Pan("4242424242424242"))  # type: ignore[operator]


def test_a_card_number_shows_at_most_six_and_four_digits() -> None:
    """Short numbers show only the last four: ten of twelve digits would leave nothing to guess."""
    assert repr(Pan("4242424242424242")) == "Pan(424242***4242)"
    assert repr(Pan("411111111111")) == "Pan(***1111)"
    assert repr(Pan("not a number")) == "Pan(***)"


def test_a_secret_cannot_be_pickled_or_copied_deeply() -> None:
    """It does not get into files or other processes by accident."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret("hunter2"))
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(Secret("hunter2"))


def test_secrets_are_equal_by_value_and_only_to_secrets() -> None:
    """A comparison with a plain string is always false, so that nobody relies on it."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
