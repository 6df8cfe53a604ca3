"""The bank's page speaks its buyer's language."""

import pytest

from guilder.network.challenge_page import amount_of
from guilder.network.words import ENGLISH, GERMAN, Words, words_for


@pytest.mark.parametrize(
    ("accepted", "words"),
    [
        ("", ENGLISH),
        ("de", GERMAN),
        ("DE-ch,de;q=0.9", GERMAN),
        ("fr, en;q=0.4, de;q=0.8", GERMAN),
        ("en, de", ENGLISH),
        ("fr, *;q=0.1", ENGLISH),
        ("de;q=0, en;q=0.1", ENGLISH),
        ("de;q=nonsense", ENGLISH),
        ("de;q=nan", ENGLISH),
        ("," * 100 + "de", ENGLISH),
    ],
)
def test_the_most_wanted_language_that_is_there_is_taken(accepted: str, words: Words) -> None:
    """By the browser's weights; English when it wants none of them."""
    assert words_for(accepted) is words


@pytest.mark.parametrize(
    ("amount", "currency", "english", "german"),
    [
        (1250, "eur", "12.50 EUR", "12,50 EUR"),
        (99_999_999, "eur", "999,999.99 EUR", "999.999,99 EUR"),
        (123_456, "jpy", "123,456 JPY", "123.456 JPY"),
        (1_234_005, "kwd", "1,234.005 KWD", "1.234,005 KWD"),
    ],
)
def test_an_amount_is_written_as_the_language_writes_it(amount: int, currency: str, english: str, german: str) -> None:
    """With all of its digits."""
    assert amount_of(amount, currency) == english
    assert amount_of(amount, currency, GERMAN) == german


def test_every_word_is_there_in_every_language() -> None:
    """And each has a place for the card's last digits."""
    for one in (ENGLISH, GERMAN):
        assert all(getattr(one, name) for name in one.__struct_fields__)
        assert "{card}" in one.waits
