"""The payment page's pure parts: languages, amounts, colours, what was typed, where a request came from."""

import re
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.checkout import colors, money
from guilder.checkout.fields import read_form
from guilder.checkout.http import address_of, page, redirect
from guilder.checkout.languages import LANGUAGES, language
from guilder.core.clock import Micros
from guilder.core.currencies import CURRENCIES
from guilder.core.errors import Refusal
from guilder.http_server import Incoming

# 15 June 2026.
NOW = Micros(1_781_481_600_000_000)
GOOD = {
    "try": "1", "token": "t", "lang": "en", "email": "ada@example.com", "number": "4242 4242 4242 4242", "expiry": "12 / 34", "cvc": "123",
    "name": "Ada Lovelace", "postal_code": "",
}  # fmt: skip


def problems(**changes: str) -> dict[str, str]:
    """What is wrong with a good form after these changes."""
    return dict(read_form(urlencode(GOOD | changes).encode(), NOW).problems)


def test_all_languages_have_the_same_texts() -> None:
    """The same keys, and the same places for what is put in."""
    english = LANGUAGES["en"].texts
    for tag, one in LANGUAGES.items():
        assert one.texts.keys() == english.keys(), tag
        for key, text in one.texts.items():
            assert sorted(re.findall(r"{(\w+)}", text)) == sorted(re.findall(r"{(\w+)}", english[key])), (tag, key)


@pytest.mark.parametrize(
    ("asked", "session", "accepted", "expected"),
    [
        (None, None, "", "en"),
        (None, None, "de", "de"),
        (None, None, "de-CH,de;q=0.9", "de"),
        (None, None, "fr, en;q=0.4, de;q=0.8", "de"),
        (None, None, "fr, *;q=0.1", "en"),
        (None, None, "de;q=0, en;q=0.1", "en"),
        (None, None, "de;q=nonsense", "en"),
        (None, "de", "en", "de"),
        (None, "fil", "de", "de"),
        ("en", "de", "de", "en"),
        ("xx", None, "de", "de"),
    ],
)
def test_the_buyers_own_choice_counts_most(asked: str | None, session: str | None, accepted: str, expected: str) -> None:
    """Then the merchant's, then the browser's in its order; else English."""
    assert language(asked=asked, session=session, accepted=accepted) == expected


@pytest.mark.parametrize(
    ("amount", "currency", "english", "german"),
    [
        (123_450, "eur", "€1,234.50", "1.234,50 €"),
        (5, "usd", "$0.05", "0,05 $"),
        (1_000, "jpy", "¥1,000", "1.000 ¥"),
        (1_234_500, "kwd", "KWD 1,234.500", "1.234,500 KWD"),
        (4_299, "chf", "CHF 42.99", "42,99 CHF"),
    ],
)
def test_amounts_are_written_as_the_language_writes_them(amount: int, currency: str, english: str, german: str) -> None:
    """Thousands, decimals by the currency, and the symbol where the language puts it; blanks never break a line."""
    assert money.shown(amount, currency, "en").replace(money.NO_BREAK, " ") == english
    assert money.shown(amount, currency, "de").replace(money.NO_BREAK, " ") == german


@given(st.integers(0, 10**10), st.sampled_from(sorted(CURRENCIES)), st.sampled_from(sorted(LANGUAGES)))
def test_no_digit_of_an_amount_is_lost(amount: int, currency: str, tag: str) -> None:
    """Whatever the currency and the language."""
    digits = re.sub(r"\D", "", money.shown(amount, currency, tag))
    assert int(digits) == amount


@given(st.integers(0, 0xFFFFFF))
def test_any_brand_colour_can_be_read(number: int) -> None:
    """Text on it, and it on light and dark paper."""
    color = f"#{number:06x}"
    assert colors.contrast(color, colors.text_on(color)) >= colors.TEXT_CONTRAST
    for paper in (colors.LIGHT_PAPER, colors.DARK_PAPER):
        assert colors.contrast(colors.readable_on(paper, color, colors.TEXT_CONTRAST), paper) >= colors.TEXT_CONTRAST


def test_a_colour_that_reads_well_stays_as_it_is() -> None:
    """Ours is changed only where it has to be."""
    assert colors.readable_on(colors.LIGHT_PAPER, colors.USUAL, colors.TEXT_CONTRAST) == colors.USUAL


def test_a_good_form_is_a_card() -> None:
    """Blanks go, a short year is this century's, and the postal code may be missing."""
    form = read_form(urlencode(GOOD).encode(), NOW)
    assert form.problems == {}
    assert form.card is not None and form.buyer is not None
    assert (form.card.number.reveal(), form.card.exp_month, form.card.exp_year) == ("4242424242424242", 12, 2034)
    assert (form.number, form.buyer.postal_code) == (1, None)


@pytest.mark.parametrize("typed", ["12/34", "12 / 34", "1234", "12/2034", "122034", "12-34", "12.34"])
def test_a_date_is_read_as_people_write_it(typed: str) -> None:
    """With and without what stands between."""
    form = read_form(urlencode(GOOD | {"expiry": typed}).encode(), NOW)
    assert form.card is not None
    assert (form.card.exp_month, form.card.exp_year) == (12, 2034)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"email": ""}, {"email": "email_missing"}),
        ({"email": "ada"}, {"email": "email_wrong"}),
        ({"email": "a" * 200 + "@example.com"}, {"email": "too_long"}),
        ({"number": ""}, {"number": "number_missing"}),
        ({"number": "4242 4242 4242 4241"}, {"number": "number_wrong"}),
        ({"number": "hello"}, {"number": "number_wrong"}),
        ({"expiry": ""}, {"expiry": "expiry_missing"}),
        ({"expiry": "13/34"}, {"expiry": "expiry_wrong"}),
        ({"expiry": "soon"}, {"expiry": "expiry_wrong"}),
        ({"expiry": "05/26"}, {"expiry": "expiry_past"}),
        ({"expiry": "12/20"}, {"expiry": "expiry_past"}),
        ({"expiry": "06/26"}, {}),
        ({"cvc": ""}, {"cvc": "cvc_missing"}),
        ({"cvc": "12"}, {"cvc": "cvc_wrong"}),
        ({"cvc": "1234"}, {"cvc": "cvc_wrong"}),
        ({"number": "378282246310005", "cvc": "1234"}, {}),
        ({"name": "  "}, {"name": "name_missing"}),
        ({"postal_code": "1" * 21}, {"postal_code": "too_long"}),
        ({"name": "4242 4242 4242 4242"}, {"name": "misplaced"}),
        ({"email": "4242424242424242@example.com"}, {"email": "misplaced"}),
        ({"postal_code": "4242-4242-4242-4242"}, {"postal_code": "misplaced"}),
        ({"name": "Ada 4242424242424241", "email": "491512345678@example.com"}, {}),
        ({"email": "", "number": "", "cvc": ""}, {"email": "email_missing", "number": "number_missing", "cvc": "cvc_missing"}),
    ],
)
def test_each_problem_stands_beside_its_field(changes: dict[str, str], expected: dict[str, str]) -> None:
    """All at once, each by a text that every language has."""
    assert problems(**changes) == expected
    assert set(expected.values()) <= LANGUAGES["en"].texts.keys()


def test_what_is_shown_again_never_holds_the_card() -> None:
    """Nor does the form's own repr."""
    form = read_form(urlencode(GOOD | {"email": ""}).encode(), NOW)
    assert "4242" not in repr(form.typed)
    assert "4242" not in repr(read_form(urlencode(GOOD | {"name": GOOD["number"], "email": GOOD["number"]}).encode(), NOW).typed)
    assert "4242424242424242" not in repr(read_form(urlencode(GOOD).encode(), NOW))


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&".join(b"a=1" for _ in range(50))])
def test_what_is_no_form_is_refused(body: bytes) -> None:
    """Broken text, and more fields than a form of ours has."""
    with pytest.raises(Refusal):
        read_form(body, NOW)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    """A form, or a refusal; nothing else."""
    try:
        read_form(body, NOW)
    except Refusal:
        return


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "1.2.3.4", "9.9.9.9"),
        (1, "1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (2, "6.6.6.6, 1.2.3.4, 10.0.0.1", "1.2.3.4"),
        (2, "1.2.3.4", "9.9.9.9"),
        (1, "", "9.9.9.9"),
    ],
)
def test_only_our_own_proxies_are_believed(proxies: int, forwarded: str, expected: str) -> None:
    """Whatever a client writes before them counts for nothing."""
    incoming = Incoming("POST", "/", b"", {b"x-forwarded-for": forwarded.encode()})
    incoming.peer = "9.9.9.9"
    assert address_of(incoming, proxies) == expected


def test_hsts_is_sent_over_https_only() -> None:
    """Over http it would be ignored, and on a merchant's test machine it would lock the address up."""
    named = {name: {header for header, _ in page(b"", https=https).headers} for name, https in (("https", True), ("http", False))}
    assert named["https"] - named["http"] == {b"strict-transport-security"}
    assert redirect("/c/x", https=True).status == 303
