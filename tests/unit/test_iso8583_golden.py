"""Golden frames: the bytes of every message, held so that neither end of the wire can drift (docs/iso8583.md, section 6)."""

from pathlib import Path

import pytest

from guilder.iso8583 import Message, OriginalData, decode, encode, fit, pack_original, pack_tags

SENDING = {7: "0102030405", 11: "000042", 32: "10000000001"}
PURCHASE = {
    2: "4242424242424242", 3: "000000", 4: "000000001050", **SENDING, 12: "030405", 14: "3012", 18: "5734", 22: "812", 25: "59",
    37: "A1B2C3D4E5F6", 41: "TERM0001", 42: fit("psp_merchant", 15), 43: fit("Guilder Demo", 40),
    48: pack_tags({"KY": "key_1", "CV": "123", "ZP": "1012AB"}), 49: "978",
}  # fmt: skip
ORIGINAL = pack_original(OriginalData(mti="0100", stan="000042", transmitted="0102030405", acquirer="10000000001"))

GOLDEN = {
    "purchase": (
        "0200", PURCHASE,
        ("02007234448108E1800016424242424242424200000000000000105001020304050000420304053012573481259"
        "1110000000001A1B2C3D4E5F6TERM0001psp_merchant   Guilder Demo                            "
        "029KY005key_1CV003123ZP0061012AB978"),
    ),
    "purchase approved": (
        "0210",
        {3: "000000", 4: "000000001050", **SENDING, 37: "A1B2C3D4E5F6", 38: "0C1D2E", 39: "00",
         48: pack_tags({"TX": "225600123456789", "CC": "P", "CA": "N"}), 49: "978"},
        ("0210322000010E018000"
        "00000000000000105001020304050000421110000000001A1B2C3D4E5F60C1D2E00032TX015225600123456789CC001PCA001N978"),
    ),
    "refund": (
        "0200",
        {3: "200000", 4: "000000000500", **SENDING, 37: "C1B2C3D4E5F6", 48: pack_tags({"OR": "A1B2C3D4E5F6"}), 49: "978"},
        "0200322000010801800020000000000000050001020304050000421110000000001C1B2C3D4E5F6017OR012A1B2C3D4E5F6978",
    ),
    "capture": (
        "0220",
        {4: "000000000700", **SENDING, 37: "B1B2C3D4E5F6", 48: pack_tags({"OR": "A1B2C3D4E5F6"}), 49: "978", 90: ORIGINAL},
        ("0220922000010801800000000040000000000000000007000102030405"
        "0000421110000000001B1B2C3D4E5F6017OR012A1B2C3D4E5F6978010000004201020304051000000000100000000000"),
    ),
    "reversal": (
        "0420",
        {**SENDING, 37: "D1B2C3D4E5F6", 48: pack_tags({"OR": "A1B2C3D4E5F6"})},
        "0420022000010801000001020304050000421110000000001D1B2C3D4E5F6017OR012A1B2C3D4E5F6",
    ),
    "inquiry": ("0600", {**SENDING, 37: "A1B2C3D4E5F6"}, "0600022000010800000001020304050000421110000000001A1B2C3D4E5F6"),
    "sign on": ("0800", {7: "0102030405", 11: "000001", 70: "001"}, "0800822000000000000004000000000000000102030405000001001"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_is_written_byte_for_byte_as_its_golden_frame(name: str) -> None:
    """Length, type, bitmap and fields stand as they have always stood."""
    mti, fields, body = GOLDEN[name]
    assert encode(mti, fields) == len(body).to_bytes(2, "big") + body.encode()


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_frame_is_read_as_its_message(name: str) -> None:
    """The same bytes give the same fields."""
    mti, fields, body = GOLDEN[name]
    assert decode(body.encode()) == Message(mti, fields)


def test_the_page_about_the_language_shows_the_golden_frames() -> None:
    """docs/iso8583.md, section 6, has each golden body in full."""
    page = (Path(__file__).parents[2] / "docs" / "iso8583.md").read_text()
    missing = [name for name, (_, _, body) in GOLDEN.items() if body not in page]
    assert not missing
