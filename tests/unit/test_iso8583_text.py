"""Tags, padded text, original data, and messages as people may see them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank_messages import purchase
from guilder.iso8583 import (
    FrameError,
    Message,
    OriginalData,
    Tag,
    describe,
    encode,
    fit,
    pack_original,
    pack_tags,
    silhouette,
    unpack_original,
    unpack_tags,
)

TAGS = st.dictionaries(
    st.from_regex("[A-Z0-9]{2}", fullmatch=True), st.text(" !09AZaz~", max_size=60), min_size=1, max_size=8
)  # fmt: skip


@given(TAGS)
def test_tags_are_read_back_as_they_were_written(tags: dict[str, str]) -> None:
    """Unpacking undoes packing."""
    assert unpack_tags(pack_tags(tags)) == tags


@given(st.text(" 0123456789ORKY", max_size=40))
def test_any_text_is_tags_or_a_frame_error(text: str) -> None:
    """Nothing else is raised."""
    try:
        tags = unpack_tags(text)
    except FrameError:
        return
    assert not text or pack_tags(tags) == text


@pytest.mark.parametrize("text", ["OR", "OR012", "OR0121", "OR-011", "O 0011", "OR001AOR001B", "OR001AX"])
def test_tags_that_are_cut_or_stand_twice_are_refused(text: str) -> None:
    """A list of tags is whole or it is none."""
    with pytest.raises(FrameError):
        unpack_tags(text)


@pytest.mark.parametrize("tags", [{}, {"KY": "x" * 998}])
def test_tags_that_field_48_cannot_hold_are_not_written(tags: dict[str, str]) -> None:
    """None at all, or too long."""
    with pytest.raises(FrameError):
        pack_tags(tags)


def test_text_is_made_to_fit_its_field() -> None:
    """Cut, padded, and what the wire cannot carry becomes a question mark."""
    assert fit("Caf\u00e9", 6) == "Caf?  "
    assert fit("abcdefgh", 6) == "abcdef"


def test_original_data_is_read_back_as_it_was_written() -> None:
    """DE 90 holds type, STAN, time and acquirer of the original, 42 digits."""
    original = OriginalData(mti="0200", stan="000042", transmitted="0102030405", acquirer="10000000001")
    text = pack_original(original)
    assert len(text) == 42
    assert unpack_original(text) == original


def test_original_data_that_is_not_42_digits_is_refused() -> None:
    """Only for callers that did not get it from `decode`."""
    with pytest.raises(FrameError):
        unpack_original("1")


def test_a_described_message_shows_no_card_data() -> None:
    """Number masked; CVC, expiry, postcode and whatever tag is not known as harmless hidden; the rest is readable."""
    message = purchase("A1B2C3D4E5F6", cvc="737", postal_code="1012AB", expiry="3109")
    text = describe(Message("0200", message.fields | {48: message.fields[48] + "S3003xyz" + "QQ003abc"}))
    assert "2=424242******4242" in text
    assert "37=A1B2C3D4E5F6" in text
    assert f"{Tag.PSP_KEY}:key_A1B2C3D4E5F6" in text
    for secret in ("4242424242424242", "737", "1012AB", "3109", "xyz", "abc"):
        assert secret not in text


def test_a_short_card_number_and_broken_tags_are_hidden_whole() -> None:
    """What cannot be masked in part is masked in whole."""
    assert describe(Message("0200", {2: "42424242", 48: "CV12"})) == "0200 2=*** 48=***"


def test_the_outline_of_a_broken_frame_shows_no_digit_or_letter_of_it() -> None:
    """It is for logs: where the structure breaks can be seen, a card number cannot."""
    frame = encode("0200", purchase("A1B2C3D4E5F6").fields)
    outline = silhouette(frame)
    assert "4242" not in outline
    assert outline.endswith(f"({len(frame)} bytes)")
    assert silhouette(b"\x00\xff 7z") == ".. 9A (5 bytes)"
