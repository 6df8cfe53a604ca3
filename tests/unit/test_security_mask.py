"""The mask for logs."""

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from guilder.security import Pan, Secret, luhn_valid, mask_text, masking

PAN = "4000000000009995"


@pytest.mark.parametrize(("text", "shown"), [
    (f"paid with {PAN}", "paid with ***9995"),
    ("card 4000 0000 0000 9995 was refused", "card ***9995 was refused"),
    ("4000-0000-0000-9995", "***9995"),
    ("/v1/charges/40 0000-0000 009995/capture", "/v1/charges/***9995/capture"),
    ("4000 0000 0000 9995 12 34", "***9995 12 34"),
    ("7 4000-0000-0000-9995-124", "7 ***9995-124"),
    ("4 0 0 0 0 0 0 0 0 0 0 0 9 9 9 5", "***9995"),
    (f'{{"number":"{PAN}","cvc":"314"}}', '{"number":"***9995","cvc":"***"}'),
    (f"card[number]={PAN}&card[cvc]=314", "card[number]=***9995&card[cvc]=***"),
    ("cvv: 1234", "cvv: ***"),
    ("Authorization: Bearer sk_test_gldAbC123xyz", "Authorization: Bearer ***"),
    ("key sk_live_gldAbC123xyz leaked", "key sk_live_*** leaked"),
    ("pi_1_secret_AbCdEf", "pi_1_secret_***"),
    ("postgresql://guilder:hunter2@localhost/x", "postgresql://guilder:***@localhost/x"),
    ("at 1767225600000000 and 1767225600000001", "at 1767225600000000 and 1767225600000001"),
    ("pi_0Vf2kQ81mZ77aB52xyz09cde1", "pi_0Vf2kQ81mZ77aB52xyz09cde1"),
    (f"pan{PAN}x", "pan***9995x"),
    (f"0200 16{PAN} sent", "0200 ***9995 sent"),
    (f"16{PAN}000000000000001999", "***"),
    ("on 2026-11-22 and 2026-11-23 10:00", "on 2026-11-22 and 2026-11-23 10:00"),
])  # fmt: skip
def test_secrets_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    """Card numbers, CVCs, keys and passwords go; instants and ids stay."""
    assert mask_text(text) == shown


def checked(body: str) -> str:
    """The digits with the check digit that makes them a card number."""
    return next(body + digit for digit in "0123456789" if luhn_valid(body + digit))


@given(
    before=st.text(alphabet="ab :=\"'_", max_size=5),
    number=st.from_regex(r"[2-9][0-9]{10,17}", fullmatch=True).map(checked),
    after=st.text(alphabet="ab ,\"\n", max_size=3),
)
def test_no_card_number_gets_through(before: str, number: str, after: str) -> None:
    """Whatever stands around a valid number, the number is not in what remains."""
    assert number not in mask_text(before + number + after)


def test_only_fields_of_the_list_are_written() -> None:
    """Others leave their name, so that the gap is seen."""
    line = masking()(None, "info", {"event": "paid", "payment": "pi_1", "card_number": PAN, "customer_name": "Jenny"})
    assert line == {"event": "paid", "payment": "pi_1", "dropped": ["card_number", "customer_name"]}


def test_values_are_masked_at_any_depth_and_of_any_type() -> None:
    """Nested values, numbers, bytes, secrets, unknown objects."""

    class Leaky:
        def __repr__(self) -> str:
            return f"Leaky({PAN})"

    line = masking()(None, "info", {
        "event": f"paid {PAN}", "result": {"code": PAN, "secret_thing": "x", "count": int(PAN)},
        "reason": [Pan(PAN), Secret("314")], "error": Leaky(), "before": PAN.encode(), "after": [[[[[PAN]]]]],
    })  # fmt: skip
    assert PAN not in repr(line)
    assert "314" not in repr(line)
    assert line["result"] == {"code": "***9995", "secret_thing": "***", "count": "***"}


def test_a_traceback_is_masked_too() -> None:
    """The processor stands behind the one that formats exceptions."""
    processors = [structlog.processors.format_exc_info, masking()]
    try:
        raise ValueError(f"card {PAN} cvc=314")
    except ValueError:
        entry: object = {"event": "failed", "exc_info": True}
        for processor in processors:
            entry = processor(None, "error", entry)  # type: ignore[operator]
    assert "ValueError" in str(entry)
    assert PAN not in str(entry)
    assert "314" not in str(entry)
