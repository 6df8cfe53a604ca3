"""What the connector says to the acquirer, field by field."""

from typing import Any

import pytest

from guilder.iso8583 import Message, Mti, Processing, Tag, decode, describe, encode, unpack_original, unpack_tags
from guilder.psp import Operation, Order, original_of, query_about, reversal_of
from guilder.psp.connectors.cardnet import CardnetSettings
from guilder.psp.connectors.cardnet.requests import Stamp, UnfitOrder, request_of
from guilder.security import Pan, Secret
from guilder.vault import Card

SETTINGS = CardnetSettings(host="127.0.0.1", port=1, acquirer="42010000001", terminal="TILL1")
CARD = Card(number=Pan("4242424242424242"), exp_month=3, exp_year=2034, cvc=Secret("123"), postal_code=" 1012 AB ")


def order(operation: Operation, **changes: Any) -> Order:
    """An order with every field set."""
    fields: dict[str, Any] = {
        "attempt_id": "att_1", "operation": operation, "first": True, "account": "acct_1", "livemode": False,
        "psp_merchant": "GUILDER01", "amount_minor": 1050, "currency": "eur", "psp_key": "k" * 24,
        "reference": "0123456789AB", "transmitted_at": "0305102030", "stan": "000007", "payment_method_id": "pm_1",
        "send_cvc": True, "descriptor": "CAFÉ GOOD",
    }  # fmt: skip
    return Order(**(fields | changes))


def request(made: Order, card: Card | None = None) -> Message:
    """The message as the acquirer reads it: through the codec and back."""
    message = request_of(made, Stamp(made.transmitted_at, made.stan), card, SETTINGS)
    read = decode(encode(message.mti, message.fields)[2:])
    assert read == Message(message.mti, message.fields)
    return read


@pytest.mark.parametrize(
    ("operation", "mti", "processing"),
    [
        (Operation.AUTHORIZE, "0100", "000000"),
        (Operation.PURCHASE, "0200", "000000"),
    ],
)
def test_an_order_with_a_card_carries_what_the_issuer_checks(operation: Operation, mti: str, processing: str) -> None:
    """Number, expiry, CVC, postcode, and the wire fields that were fixed at accept."""
    message = request(order(operation), CARD)
    fields = message.fields
    assert message.mti == mti
    assert (fields[2], fields[3], fields[4], fields[14], fields[49]) == (
        "4242424242424242", processing, "000000001050", "3403", "978"
    )  # fmt: skip
    assert (fields[7], fields[11], fields[12], fields[37]) == ("0305102030", "000007", "102030", "0123456789AB")
    assert (fields[32], fields[41], fields[42]) == ("42010000001", "TILL1   ", "GUILDER01      ")
    assert fields[43].rstrip() == "CAF? GOOD"
    assert unpack_tags(fields[48]) == {"KY": "k" * 24, "CV": "123", "ZP": "1012 AB"}


def test_a_cvc_goes_only_where_the_attempt_says_so() -> None:
    """Saved cards are sent without, even if the vault still has one."""
    assert "CV" not in unpack_tags(request(order(Operation.PURCHASE, send_cvc=False), CARD).fields[48])


def test_a_proof_of_authentication_travels_with_the_authorization() -> None:
    """What 3-D Secure left behind."""
    assert unpack_tags(request(order(Operation.AUTHORIZE, proof="05AABB"), CARD).fields[48])["S3"] == "05AABB"


@pytest.mark.parametrize(
    ("operation", "of", "mti", "processing", "original_mti"),
    [
        (Operation.CAPTURE, Operation.AUTHORIZE, "0220", "000000", "0100"),
        (Operation.VOID, Operation.AUTHORIZE, "0400", "000000", "0100"),
        (Operation.REFUND, Operation.PURCHASE, "0200", "200000", "0200"),
        (Operation.REFUND, Operation.CAPTURE, "0200", "200000", "0220"),
    ],
)
def test_an_order_about_another_names_it_twice_and_carries_no_card(
    operation: Operation, of: Operation, mti: str, processing: str, original_mti: str
) -> None:
    """By reference in DE 48, by message type, STAN and time in DE 90."""
    original = original_of(order(of, reference="ORIGINAL0001", stan="000001", transmitted_at="0304000000"))
    message = request(order(operation, original=original))
    assert (message.mti, message.fields[3]) == (mti, processing)
    assert unpack_tags(message.fields[48]) == {"KY": "k" * 24, "OR": "ORIGINAL0001"}
    told = unpack_original(message.fields[90])
    assert (told.mti, told.stan, told.transmitted, told.acquirer) == (original_mti, "000001", "0304000000", "42010000001")
    assert not {2, 14} & message.fields.keys()


def test_a_reversal_says_whether_it_is_a_repetition() -> None:
    """0420 the first time, 0421 after it, the rest the same."""
    first, again = reversal_of(order(Operation.PURCHASE)), reversal_of(order(Operation.PURCHASE, repeat=True))
    assert (request(first).mti, request(again).mti) == ("0420", "0421")
    assert request(first).fields == request(again).fields
    assert unpack_tags(request(first).fields[48])["OR"] == "0123456789AB"


def test_an_inquiry_asks_about_the_reference_under_a_time_of_its_own() -> None:
    """DE 37 is what is asked about; DE 90 tells the sending."""
    query = query_about(order(Operation.PURCHASE))
    message = request_of(query, Stamp("0306000000", "000099"), None, SETTINGS)
    assert (message.mti, message.fields[37], message.fields[7], message.fields[11]) == (
        "0600", "0123456789AB", "0306000000", "000099"
    )  # fmt: skip
    assert unpack_original(message.fields[90]).transmitted == "0305102030"
    assert not {2, 4, 14, 48} & message.fields.keys()


@pytest.mark.parametrize(
    "unfit",
    [
        order(Operation.AUTHENTICATE),
        order(Operation.CAPTURE),
        order(Operation.QUERY),
        order(Operation.PURCHASE),
        order(Operation.PURCHASE, currency="xyz"),
    ],
)
def test_what_cannot_be_said_is_refused(unfit: Order) -> None:
    """An operation that the connector does not do, an original that is missing, a card that is missing, no such currency."""
    card = CARD if unfit.currency == "xyz" else None
    with pytest.raises(UnfitOrder):
        request_of(unfit, Stamp(unfit.transmitted_at, unfit.stan), card, SETTINGS)


def test_an_authentication_is_an_authorization_message_with_a_processing_code_of_its_own() -> None:
    """It names where the buyer comes back to, and carries no CVC."""
    asked = request(order(Operation.AUTHENTICATE, send_cvc=False, returns_to="http://checkout/return", wants_challenge=True), CARD)
    assert (asked.mti, asked.fields[3]) == (Mti.AUTHORIZATION, Processing.AUTHENTICATION)
    tags = unpack_tags(asked.fields[48])
    assert (tags[Tag.RETURNS_TO], tags[Tag.WANTS_CHALLENGE]) == ("http://checkout/return", "1")
    assert Tag.CVC not in tags


def test_an_authorization_carries_the_proof_and_says_whether_the_buyer_is_there() -> None:
    """DE 48."""
    asked = request(order(Operation.AUTHORIZE, proof="proof-1", merchant_initiated=True), CARD)
    tags = unpack_tags(asked.fields[48])
    assert (tags[Tag.AUTHENTICATION], tags[Tag.MERCHANT_INITIATED]) == ("proof-1", "1")
    assert "proof-1" not in describe(asked)


def test_the_masked_text_shows_neither_number_nor_cvc() -> None:
    """What `payments show` prints of a purchase."""
    text = describe(request(order(Operation.PURCHASE), CARD))
    assert "424242******4242" in text
    assert "4242424242424242" not in text
    assert "CV:***" in text
    assert "1012" not in text
