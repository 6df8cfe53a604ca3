"""The wire fields of an attempt, and the orders that are made from the same row later."""

import string
from typing import Any

from guilder.core.clock import SECOND, ManualClock, Micros
from guilder.core.ids import Ids
from guilder.psp.model import (
    REFERENCE_ALPHABET,
    ContractClass,
    Declares,
    Operation,
    Order,
    draw_wire,
    original_of,
    query_about,
    reversal_of,
    transmission_time,
)

NEW_YEAR = 1_767_225_600


def order(**changes: Any) -> Order:
    """A purchase as it would be made from an attempt's row."""
    fields: dict[str, Any] = {
        "attempt_id": "att_1", "operation": Operation.PURCHASE, "first": True, "account": "acct_1", "livemode": False,
        "psp_merchant": "GUILDER00000001", "amount_minor": 1050, "currency": "eur", "psp_key": "k" * 24,
        "reference": "0123456789AB", "transmitted_at": "0101000000", "stan": "000001", "payment_method_id": "pm_1",
        "send_cvc": True, "proof": "proof",
    }  # fmt: skip
    return Order(**(fields | changes))


def test_wire_fields_have_the_shape_that_iso_8583_wants() -> None:
    """Twelve characters, six digits, ten digits, and a key of 32 hexadecimal ones, whatever the random bits are."""
    for byte in (b"\x00", b"\xff"):
        wire = draw_wire(Ids(ManualClock(), lambda count, byte=byte: byte * count), Micros(NEW_YEAR * SECOND))
        assert len(wire.reference) == 12
        assert set(wire.reference) <= set(REFERENCE_ALPHABET)
        assert len(wire.stan) == 6
        assert 1 <= int(wire.stan) <= 999_999
        assert wire.transmitted_at == "0101000000"
        assert len(wire.psp_key) == 32
        assert set(wire.psp_key) <= set(string.hexdigits)


def test_wire_fields_of_two_attempts_differ() -> None:
    """References and keys are drawn, not computed from the payment."""
    clock = ManualClock()
    ids = Ids(clock)
    drawn = [draw_wire(ids, clock.now()) for _ in range(2_000)]
    assert len({wire.reference for wire in drawn}) == len({wire.psp_key for wire in drawn}) == 2_000


def test_transmission_time_is_utc_to_the_second() -> None:
    """MMDDhhmmss, year left out as ISO 8583:1987 does."""
    assert transmission_time(NEW_YEAR + 31 * 86_400 + 3_661) == "0201010101"


def test_a_query_asks_about_the_reference_itself_and_carries_no_card() -> None:
    """The question names the original and reveals nothing."""
    query = query_about(order())
    assert query.operation is Operation.QUERY
    assert query.reference == "0123456789AB"
    assert query.original == original_of(order())
    assert (query.first, query.payment_method_id, query.send_cvc, query.proof) == (False, None, False, None)


def test_the_reversal_of_an_attempt_is_always_the_same_one() -> None:
    """Repeated by whoever takes the attempt over, it is one reversal, and its reference is not the original's."""
    once, again = reversal_of(order()), reversal_of(order(sender_epoch=2))
    assert once.reference == again.reference == "I123456789AB"
    assert (once.transmitted_at, once.stan) == (order().transmitted_at, order().stan)
    assert once.original is not None
    assert once.original.reference == order().reference
    assert once.first is False


def test_every_reference_has_a_reversal_reference_of_its_own() -> None:
    """No two originals share a reversal's reference, and none is its own."""
    firsts = [reversal_of(order(reference=f"{c}00000000000")).reference for c in REFERENCE_ALPHABET]
    assert len(set(firsts)) == len(REFERENCE_ALPHABET)
    assert all(first[0] != c for first, c in zip(firsts, REFERENCE_ALPHABET, strict=True))


def test_a_connector_that_names_currencies_takes_only_those() -> None:
    """None means all of them."""
    declares = Declares(
        contract_class=ContractClass.NOTHING, idempotency_window_seconds=None, partial_capture=False,
        multiple_capture=False, currencies=frozenset({"eur"}), three_d_secure=False, remembers_reversals=False,
        finality_horizon_seconds=None,
    )  # fmt: skip
    assert declares.takes("eur")
    assert not declares.takes("usd")
