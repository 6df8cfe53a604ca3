"""What the bank world decides about each message: cards, amounts, order of events, duplicates."""

import pytest

from bank_messages import ACQUIRER, JPY, KWD, NOON, Bank, authorization, capture, purchase, refund, reversal, void
from guilder.core.clock import DAY, Micros
from guilder.iso8583 import Code, Message, Mti, OriginalData, Tag, pack_original, unpack_tags
from guilder.network.cards import CARDS
from guilder.network.entries import AccountsAdded
from guilder.network.issuer import Terms, passes_luhn

DECLINES = {
    "4000000000000002": Code.DO_NOT_HONOR,
    "4000000000009995": Code.INSUFFICIENT_FUNDS,
    "4000000000009987": Code.LOST_CARD,
    "4000000000009979": Code.STOLEN_CARD,
    "4000000000000069": Code.EXPIRED_CARD,
    "4000000000000127": Code.WRONG_CVC,
    "4000000000000119": Code.PROCESSING_ERROR,
    "4000000000006975": Code.LIMIT_EXCEEDED,
    "4000000000000341": Code.DO_NOT_HONOR,
    **dict.fromkeys(
        (
            "4000002500003155", "4000002760003184", "4000003800000446", "4000000000003220", "4000000000003238", "4000008400001629",
            "4000008260003178", "4000008400001280",
        ), Code.WANTS_AUTHENTICATION,
    ),
}


@pytest.fixture
def bank() -> Bank:
    """A bank world in which nothing has happened."""
    return Bank()


def tags(answer: dict[int, str]) -> dict[str, str]:
    """The tags of an answer."""
    return unpack_tags(answer.get(48, ""))


def opened(bank: Bank, number: str = "4000019999999991", **terms: object) -> str:
    """An account with terms of its own; returns its number."""
    bank.books.scheme.use_key(b"k")
    digest = bank.books.scheme.digest(number)
    bank.books.scheme.add(
        AccountsAdded(NOON, Terms(**terms), name="own", masked=f"{number[:6]}******{number[-4:]}", digest=digest)  # type: ignore[arg-type]
    )
    return number


@pytest.mark.parametrize("number", sorted(CARDS))
@pytest.mark.parametrize("message", [purchase, authorization])
def test_every_card_of_the_table_pays_or_declines_as_it_should(bank: Bank, number: str, message: object) -> None:
    """Brands, risk and dispute cards pay; those of 3-D Secure want a proof first; each decline has its own code."""
    cvc = "1234" if number.startswith(("34", "37")) else "123"
    answer = bank.ask(message("A1", number=number, cvc=cvc, currency="978"))  # type: ignore[operator]
    assert answer[39] == DECLINES.get(number, Code.APPROVED)
    assert (38 in answer) == (number not in DECLINES)


def test_every_card_of_the_table_passes_luhn() -> None:
    """A typing error in the table would make a card that no client lets through."""
    assert [number for number in CARDS if not passes_luhn(number)] == []


@pytest.mark.parametrize("number", ["4242424242424241", "4999999999999996", "9999999999999995", "424242424242"])
def test_a_number_that_nobody_issued_is_unknown(bank: Bank, number: str) -> None:
    """Whether it fails Luhn, has no account, or no issuer."""
    assert bank.code(purchase("A1", number=number)) == Code.UNKNOWN_CARD


def test_an_approval_carries_the_code_of_the_issuer_and_the_id_of_the_scheme(bank: Bank) -> None:
    """DE 38, TX, and what was done: amount and currency."""
    answer = bank.ask(purchase("A1", 1050, postal_code="1012AB"))
    assert (answer[4], answer[49], len(answer[38])) == ("000000001050", "978", 6)
    assert len(tags(answer)[Tag.TRANSACTION_ID]) == 15
    assert (tags(answer)[Tag.CVC_CHECK], tags(answer)[Tag.POSTAL_CODE_CHECK]) == ("P", "P")


def test_checks_that_were_not_asked_for_are_told_as_not_given(bank: Bank) -> None:
    """No CVC, no postcode: N and N, and no decline."""
    answer = bank.ask(purchase("A1", cvc=None))
    assert (answer[39], tags(answer)[Tag.CVC_CHECK], tags(answer)[Tag.POSTAL_CODE_CHECK]) == (Code.APPROVED, "N", "N")


def test_the_card_whose_cvc_check_fails_pays_and_says_so(bank: Bank) -> None:
    """4000000000000101: F with a CVC, N without."""
    assert tags(bank.ask(purchase("A1", number="4000000000000101")))[Tag.CVC_CHECK] == "F"
    assert tags(bank.ask(purchase("A2", number="4000000000000101", cvc=None)))[Tag.CVC_CHECK] == "N"


def test_the_card_whose_postcode_check_fails_pays_and_says_so(bank: Bank) -> None:
    """4000000000000036: F with a postcode, N without."""
    assert tags(bank.ask(purchase("A1", number="4000000000000036", postal_code="1012AB")))[Tag.POSTAL_CODE_CHECK] == "F"
    assert tags(bank.ask(purchase("A2", number="4000000000000036")))[Tag.POSTAL_CODE_CHECK] == "N"


def test_the_bypass_pending_card_says_that_its_funds_are_available_at_once(bank: Bank) -> None:
    """AV on the purchase and on the capture; not on an authorization, which moves nothing."""
    number = "4000000000000077"
    assert tags(bank.ask(purchase("A1", number=number)))[Tag.AVAILABLE] == "0"
    assert Tag.AVAILABLE not in tags(bank.ask(authorization("A2", number=number)))
    assert tags(bank.ask(capture("C2", "A2")))[Tag.AVAILABLE] == "0"


@pytest.mark.parametrize(
    ("terms", "changes", "code"),
    [
        ({}, {"expiry": "2512"}, Code.EXPIRED_CARD),
        ({}, {"expiry": "2601"}, Code.APPROVED),
        ({"expiry": "3012"}, {"expiry": "3011"}, Code.EXPIRED_CARD),
        ({"cvc": "737"}, {"cvc": "737"}, Code.APPROVED),
        ({"cvc": "737"}, {"cvc": "738"}, Code.WRONG_CVC),
        ({}, {"cvc": "12"}, Code.WRONG_CVC),
        ({}, {"cvc": "1234"}, Code.WRONG_CVC),
        ({"postal_code": "1012AB"}, {"postal_code": "9999ZZ"}, Code.APPROVED),
        ({"opening_major": 10}, {}, Code.INSUFFICIENT_FUNDS),
        ({"opening_major": 11}, {}, Code.APPROVED),
        ({"code": "62"}, {}, "62"),
    ],
)
def test_the_issuer_checks_what_it_knows_of_an_account(
    bank: Bank, terms: dict[str, object], changes: dict[str, object], code: str
) -> None:
    """Status, expiry by business time (it is January 2026), CVC, balance; a wrong postcode never declines."""
    assert bank.code(purchase("A1", number=opened(bank, **terms), **changes)) == code


def test_a_card_expires_when_the_business_clock_moves_past_its_month(bank: Bank) -> None:
    """The last day of the month is good, the next one is not."""
    bank.now = Micros(NOON + 30 * DAY)
    assert bank.code(purchase("A1", expiry="2601")) == Code.APPROVED
    bank.now = Micros(NOON + 31 * DAY)
    assert bank.code(purchase("A2", expiry="2601")) == Code.EXPIRED_CARD


def test_an_american_express_card_has_four_digits_of_cvc(bank: Bank) -> None:
    """Three are wrong there."""
    assert bank.code(purchase("A1", number="378282246310005", cvc="1234")) == Code.APPROVED
    assert bank.code(purchase("A2", number="378282246310005", cvc="123")) == Code.WRONG_CVC


@pytest.mark.parametrize(("currency", "letters", "opening"), [(JPY, "jpy", 10), (KWD, "kwd", 10_000)])
def test_a_balance_runs_out_to_the_minor_unit_in_every_currency(bank: Bank, currency: str, letters: str, opening: int) -> None:
    """10 yen are 10 minor units, 10 dinars 10,000."""
    number = opened(bank, opening_major=10)
    assert bank.code(purchase("A1", opening, number=number, currency=currency)) == Code.APPROVED
    assert bank.code(purchase("A2", 1, number=number, currency=currency)) == Code.INSUFFICIENT_FUNDS
    assert bank.account("own").available(letters) == 0


def test_what_is_held_cannot_be_spent(bank: Bank) -> None:
    """Authorizations count against the balance until captured or void."""
    number = opened(bank, opening_major=10)
    assert bank.code(authorization("A1", 600, number=number)) == Code.APPROVED
    assert bank.code(purchase("A2", 500, number=number)) == Code.INSUFFICIENT_FUNDS
    assert bank.code(void("V1", "A1")) == Code.APPROVED
    assert bank.code(purchase("A3", 500, number=number)) == Code.APPROVED


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"amount": 0}, Code.INVALID_AMOUNT), ({"currency": "999"}, Code.INVALID_TRANSACTION)],
)
def test_amounts_of_nothing_and_unknown_currencies_are_declined(bank: Bank, changes: dict[str, object], code: str) -> None:
    """And move nothing."""
    assert bank.code(purchase("A1", **changes)) == code
    assert bank.spent() == 0


def test_a_capture_in_part_takes_that_part_and_releases_the_rest(bank: Bank) -> None:
    """Once: a second capture has nothing to take."""
    bank.ask(authorization("A1", 1000))
    assert bank.held() == 1000
    assert bank.code(capture("C1", "A1", 700)) == Code.APPROVED
    assert (bank.held(), bank.spent()) == (0, 700)
    assert bank.code(capture("C2", "A1", 300)) == Code.INVALID_TRANSACTION
    assert bank.spent() == 700


@pytest.mark.parametrize(
    ("original", "changes", "code"),
    [
        ("A1", {"amount": 1001}, Code.INVALID_AMOUNT),
        ("A1", {"amount": 0}, Code.INVALID_AMOUNT),
        ("A1", {"currency": JPY}, Code.INVALID_TRANSACTION),
        ("NONE", {}, Code.NOT_FOUND),
        ("P1", {}, Code.NOT_FOUND),
        ("D1", {}, Code.NOT_FOUND),
        ("V1", {}, Code.ALREADY_REVERSED),
    ],
)
def test_a_capture_needs_an_open_authorization_of_at_least_its_amount(
    bank: Bank, original: str, changes: dict[str, object], code: str
) -> None:
    """A1 is open, P1 a purchase, D1 declined, V1 void."""
    bank.ask(authorization("A1", 1000))
    bank.ask(purchase("P1", 1000))
    bank.ask(authorization("D1", number="4000000000000002"))
    bank.ask(authorization("V1", 1000))
    bank.ask(void("V2", "V1"))
    assert bank.code(capture("C1", original, **{"amount": 1000} | changes)) == code  # type: ignore[arg-type]


def test_void_and_capture_of_one_authorization_exclude_each_other(bank: Bank) -> None:
    """Whoever comes second hears so: 79 for the capture, 21 for the void."""
    bank.ask(authorization("A1"))
    bank.ask(authorization("A2"))
    assert [bank.code(void("V1", "A1")), bank.code(capture("C1", "A1"))] == [Code.APPROVED, Code.ALREADY_REVERSED]
    assert [bank.code(capture("C2", "A2")), bank.code(void("V2", "A2"))] == [Code.APPROVED, Code.NOT_UNDONE]
    assert (bank.held(), bank.spent()) == (0, 1050)


@pytest.mark.parametrize(
    ("original", "code"),
    [("V1", Code.APPROVED), ("D1", Code.APPROVED), ("P1", Code.NOT_UNDONE), ("NONE", Code.NOT_FOUND), ("V2", Code.NOT_FOUND)],
)
def test_a_void_is_granted_when_nothing_is_held_any_more(bank: Bank, original: str, code: str) -> None:
    """V1 is void already, D1 was declined; a purchase P1 wants a refund; V2 is no authorization."""
    bank.ask(authorization("V1"))
    bank.ask(void("V2", "V1"))
    bank.ask(authorization("D1", number="4000000000000002"))
    bank.ask(purchase("P1"))
    before = bank.spent(), bank.held()
    assert bank.code(void("X1", original)) == code
    assert (bank.spent(), bank.held()) == before


def test_refunds_together_give_back_no_more_than_was_captured(bank: Bank) -> None:
    """In parts, to the last cent, then not one more."""
    bank.ask(purchase("P1", 1000))
    codes = [bank.code(refund(f"R{index}", "P1", amount)) for index, amount in enumerate((400, 601, 600, 1))]
    assert codes == [Code.APPROVED, Code.INVALID_AMOUNT, Code.APPROVED, Code.INVALID_AMOUNT]
    assert bank.spent() == 0


@pytest.mark.parametrize("original", ["C1", "A1"])
def test_a_captured_authorization_is_refunded_under_either_reference(bank: Bank, original: str) -> None:
    """That of the capture or that of the authorization; the limit is what was captured."""
    bank.ask(authorization("A1", 1000))
    bank.ask(capture("C1", "A1", 700))
    assert bank.code(refund("R1", original, 701)) == Code.INVALID_AMOUNT
    assert bank.code(refund("R2", original, 700)) == Code.APPROVED
    assert bank.spent() == 0


@pytest.mark.parametrize(
    ("original", "changes", "code"),
    [
        ("", {}, Code.FORMAT_ERROR),
        ("NONE", {}, Code.NOT_FOUND),
        ("A1", {}, Code.NOT_FOUND),
        ("D1", {}, Code.NOT_FOUND),
        ("X1", {}, Code.ALREADY_REVERSED),
        ("P1", {"currency": JPY}, Code.INVALID_TRANSACTION),
        ("P1", {"amount": 0}, Code.INVALID_AMOUNT),
    ],
)
def test_a_refund_needs_a_capture_that_stands(bank: Bank, original: str, changes: dict[str, object], code: str) -> None:
    """A1 is not captured, D1 declined, X1 reversed."""
    bank.ask(purchase("P1"))
    bank.ask(authorization("A1"))
    bank.ask(purchase("D1", number="4000000000000002"))
    bank.ask(purchase("X1"))
    bank.ask(reversal("X2", "X1"))
    assert bank.code(refund("R1", original, **changes)) == code  # type: ignore[arg-type]


def test_a_refund_whose_tags_name_no_original_is_declined(bank: Bank) -> None:
    """Money is only given back for something that was paid."""
    message = refund("R1", "P1")
    message.fields[48] = "KY001k"
    assert bank.code(message) == Code.INVALID_TRANSACTION


def test_a_pending_refund_moves_no_money_until_it_is_settled(bank: Bank) -> None:
    """4000000000007726: 09 with a follow-up; its amount counts as refunded from the start."""
    bank.ask(purchase("P1", 1000, number="4000000000007726"))
    answer = bank.ask(refund("R1", "P1", 600))
    assert (answer[39], tags(answer)[Tag.FOLLOW_UP], bank.spent("refund_pending")) == (Code.IN_PROGRESS, "5", 1000)
    assert bank.code(refund("R2", "P1", 401)) == Code.INVALID_AMOUNT
    bank.settle("R1")
    assert bank.spent("refund_pending") == 400


def test_a_returned_refund_takes_its_money_back_and_can_be_made_again(bank: Bank) -> None:
    """4000000000005126: approved with a follow-up, comes back later."""
    bank.ask(purchase("P1", 1000, number="4000000000005126"))
    answer = bank.ask(refund("R1", "P1", 1000))
    assert (answer[39], tags(answer)[Tag.FOLLOW_UP], bank.spent("refund_returned")) == (Code.APPROVED, "5", 0)
    bank.settle("R1")
    assert bank.spent("refund_returned") == 1000
    assert bank.code(refund("R2", "P1", 1000)) == Code.APPROVED


def test_the_reversal_of_a_purchase_gives_its_money_back(bank: Bank) -> None:
    """All of it that has not been refunded, once."""
    bank.ask(purchase("P1", 1000))
    bank.ask(refund("R1", "P1", 300))
    assert [bank.code(reversal("X1", "P1")), bank.code(reversal("X2", "P1"))] == [Code.APPROVED, Code.APPROVED]
    assert bank.spent() == 0


def test_the_reversal_of_an_authorization_frees_its_hold(bank: Bank) -> None:
    """Also of one that was captured: then the money comes back."""
    bank.ask(authorization("A1"))
    bank.ask(authorization("A2"))
    bank.ask(capture("C2", "A2"))
    assert [bank.code(reversal("X1", "A1")), bank.code(reversal("X2", "A2"))] == [Code.APPROVED, Code.APPROVED]
    assert (bank.held(), bank.spent()) == (0, 0)


def test_the_reversal_of_a_capture_gives_its_money_back_and_ends_the_authorization(bank: Bank) -> None:
    """Nothing is held again, and nothing can be captured or refunded."""
    bank.ask(authorization("A1"))
    bank.ask(capture("C1", "A1"))
    assert bank.code(reversal("X1", "C1")) == Code.APPROVED
    assert (bank.held(), bank.spent()) == (0, 0)
    assert [bank.code(capture("C2", "A1")), bank.code(refund("R1", "C1"))] == [Code.ALREADY_REVERSED, Code.ALREADY_REVERSED]


def test_the_reversal_of_a_refund_takes_its_money_back(bank: Bank) -> None:
    """And what was captured can be refunded anew; one in progress is stopped without moving money."""
    bank.ask(purchase("P1", 1000))
    bank.ask(refund("R1", "P1", 1000))
    assert (bank.code(reversal("X1", "R1")), bank.spent()) == (Code.APPROVED, 1000)
    assert bank.code(refund("R2", "P1", 1000)) == Code.APPROVED
    bank.ask(purchase("P2", 1000, number="4000000000007726"))
    bank.ask(refund("R3", "P2", 1000))
    assert (bank.code(reversal("X3", "R3")), bank.spent("refund_pending")) == (Code.APPROVED, 1000)
    assert bank.books.due_refunds(bank.now + DAY) == []


@pytest.mark.parametrize("message", [void("X1", "V1"), reversal("X1", "V1"), reversal("X1", "X0")])
def test_a_void_or_a_reversal_cannot_be_undone(bank: Bank, message: Message) -> None:
    """There is no way back from undone; a void of a void finds no authorization."""
    bank.ask(authorization("A1"))
    bank.ask(void("V1", "A1"))
    bank.ask(purchase("P1"))
    bank.ask(reversal("X0", "P1"))
    assert bank.code(message) == (Code.NOT_FOUND if message.mti == Mti.VOID else Code.NOT_UNDONE)
    assert (bank.spent(), bank.held()) == (0, 0)


@pytest.mark.parametrize("original", [purchase("P1"), authorization("P1")])
def test_a_reversal_that_comes_before_its_original_is_remembered_for_a_day(bank: Bank, original: Message) -> None:
    """Acknowledged; the original is declined when it comes within 24 hours, and the decline is what a repeat hears."""
    assert bank.code(reversal("X1", "P1")) == Code.APPROVED
    bank.now = Micros(NOON + DAY - 1)
    assert [bank.code(original), bank.code(original)] == [Code.ALREADY_REVERSED, Code.ALREADY_REVERSED]
    assert (bank.spent(), bank.held()) == (0, 0)


def test_a_reversal_waits_no_longer_than_a_day_for_its_original(bank: Bank) -> None:
    """After that an original is an original."""
    bank.ask(reversal("X1", "P1"))
    bank.now = Micros(NOON + DAY)
    assert bank.code(purchase("P1")) == Code.APPROVED


def test_a_reversal_that_names_no_original_is_declined(bank: Bank) -> None:
    """There is nothing that it could acknowledge."""
    message = reversal("X1", "P1")
    message.fields[48] = "KY001k"
    assert bank.code(message) == Code.INVALID_TRANSACTION


@pytest.mark.parametrize(
    "message",
    [purchase("Z1"), authorization("Z1"), capture("Z1", "A1"), void("Z1", "A1"), refund("Z1", "P1"), reversal("Z1", "P1"),
     purchase("Z1", number="4000000000000002")],
)  # fmt: skip
def test_a_repeated_message_gets_the_stored_answer_and_has_no_second_effect(bank: Bank, message: Message) -> None:
    """The same DE 7, 32 and 37, up to 24 hours later, with whatever amount the repeat claims."""
    bank.ask(authorization("A1"))
    bank.ask(purchase("P1"))
    first = bank.ask(message)
    after = bank.spent(), bank.held(), len(bank.entries)
    bank.now = Micros(NOON + DAY - 1)
    repeated = bank.ask(Message(message.mti, message.fields | ({4: "000000000001"} if 4 in message.fields else {})))
    assert repeated == first
    assert (bank.spent(), bank.held(), len(bank.entries)) == after


def test_the_repeat_of_a_reversal_is_a_repeat(bank: Bank) -> None:
    """0421 with the same DE 7, 32, 37 is the same reversal."""
    bank.ask(purchase("P1"))
    first = bank.ask(reversal("X1", "P1"))
    assert bank.ask(Message(Mti.REVERSAL_REPEAT, reversal("X1", "P1").fields)) == first
    assert len(bank.entries) == 2


@pytest.mark.parametrize("message", [purchase("P1", sent="0102030406"), authorization("P1"), refund("P1", "P1")])
def test_a_reference_is_never_used_for_something_else(bank: Bank, message: Message) -> None:
    """Another DE 7, or another kind of operation under a known reference: 94, and nothing happens."""
    bank.ask(purchase("P1"))
    assert bank.code(message) == Code.DUPLICATE
    assert (bank.spent(), len(bank.entries)) == (1050, 1)


def test_after_a_day_nothing_guards_against_a_second_effect(bank: Bank) -> None:
    """The idempotency window is 24 hours, as the connector declares; a repeat after it is a new purchase."""
    bank.ask(purchase("P1"))
    bank.now = Micros(NOON + DAY)
    assert bank.code(purchase("P1")) == Code.APPROVED
    assert bank.spent() == 2100


@pytest.mark.parametrize("make", [capture, void, reversal])
def test_original_data_that_speaks_of_another_message_is_inconsistent(bank: Bank, make: object) -> None:
    """DE 90 is checked against what is remembered; with 77 nothing has happened."""
    bank.ask(authorization("A1"))
    right = OriginalData(mti="0100", stan="000042", transmitted="0102030405", acquirer=ACQUIRER)
    wrong = OriginalData(mti="0100", stan="000042", transmitted="0102030406", acquirer=ACQUIRER)
    assert bank.code(make("Z1", "A1", original_data=pack_original(wrong))) == Code.INCONSISTENT  # type: ignore[operator]
    assert bank.held() == 1050
    assert bank.code(make("Z2", "A1", original_data=pack_original(right))) == Code.APPROVED  # type: ignore[operator]


@pytest.mark.parametrize(
    ("message", "missing"),
    [(purchase("A1"), number) for number in (2, 3, 4, 14, 49)]
    + [(capture("A1", "A0"), number) for number in (4, 48, 49)]
    + [(refund("A1", "A0"), number) for number in (4, 48, 49)]
    + [(void("A1", "A0"), 48), (reversal("A1", "A0"), 48)],
)
def test_a_message_without_a_field_that_it_needs_leaves_no_trace(bank: Bank, message: Message, missing: int) -> None:
    """30, and the reference can be used again."""
    fields = {number: value for number, value in message.fields.items() if number != missing}
    assert bank.code(Message(message.mti, fields)) == Code.FORMAT_ERROR
    assert bank.entries == []


def test_tags_that_are_none_are_a_format_error(bank: Bank) -> None:
    """The frame was whole, so it is answered."""
    assert bank.code(Message(Mti.VOID, void("V1", "A1").fields | {48: "OR999"})) == Code.FORMAT_ERROR


def test_an_advice_is_recorded_whatever_the_balance(bank: Bank) -> None:
    """0120 reports what was approved elsewhere; only an unknown card can be declined."""
    number = opened(bank, opening_major=0)
    advice = Message(Mti.AUTHORIZATION_ADVICE, authorization("A1", number=number).fields)
    assert (bank.code(advice), bank.held("own")) == (Code.APPROVED, 1050)
    unknown = Message(Mti.AUTHORIZATION_ADVICE, authorization("A2", number="4999999999999996").fields)
    assert bank.code(unknown) == Code.UNKNOWN_CARD


def test_declines_say_whether_another_try_may_help(bank: Bank) -> None:
    """AC: 01 new card data, 02 later, 03 never."""
    advice = {
        number: tags(bank.ask(purchase(f"A{index}", number=number))).get(Tag.ADVICE)
        for index, number in enumerate(("4000000000000069", "4000000000009995", "4000000000009979", "4000000000000002"))
    }
    assert list(advice.values()) == ["01", "02", "03", None]
