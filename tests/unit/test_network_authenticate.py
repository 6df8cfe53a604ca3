"""What the bank world says of a buyer, and how it knows its own proof again."""

import pytest

from bank_messages import ACQUIRER, NOON, Bank, authorization, capture, purchase, refund, reversal, void
from guilder.core.clock import DAY, Micros
from guilder.iso8583 import Authenticated, Code, Message, Processing, Tag, pack_tags, unpack_tags
from guilder.network.books import Books
from guilder.network.decide import answer_challenge
from guilder.network.entries import Entry, decode_line
from guilder.network.scheme import Scheme
from guilder.network.truth import effects_of

FRICTIONLESS = "4000000000003238"
CHALLENGES = "4000000000003220"
BACK = "http://checkout/back"


@pytest.fixture
def bank() -> Bank:
    """A bank world in which nothing has happened."""
    return Bank()


def authentication(reference: str, number: str = FRICTIONLESS, **tags: str) -> Message:
    """0100 with the processing code of an authentication."""
    message = authorization(reference, number=number)
    message.fields[3] = Processing.AUTHENTICATION
    message.fields[48] = pack_tags({Tag.PSP_KEY: "k", Tag.RETURNS_TO: BACK} | tags)
    return message


def proved(reference: str, proof: str, number: str = FRICTIONLESS, amount: int = 1050) -> Message:
    """0200 with a proof."""
    message = purchase(reference, amount, number=number)
    message.fields[48] = pack_tags({Tag.PSP_KEY: "k", Tag.CVC: "123", Tag.AUTHENTICATION: proof})
    return message


def tags(answer: dict[int, str]) -> dict[str, str]:
    """The tags of an answer."""
    return unpack_tags(answer.get(48, ""))


def proof(bank: Bank, reference: str = "A0000000AUTH", number: str = FRICTIONLESS) -> str:
    """The proof of a new authentication."""
    return tags(bank.ask(authentication(reference, number)))[Tag.AUTHENTICATION]


def test_an_authentication_moves_nothing_and_is_told(bank: Bank) -> None:
    """Nothing is held, and the truth names it with its result."""
    proof(bank)
    assert bank.held("three_d_secure_frictionless") == bank.spent("three_d_secure_frictionless") == 0
    [effect] = effects_of(bank.entries[-1])
    assert (effect.kind, effect.result) == ("authentication", Authenticated.PASSED)


def test_a_proof_pays_once(bank: Bank) -> None:
    """The truth names it on the authorization; the second use is refused."""
    given = proof(bank)
    assert bank.code(proved("P00000000001", given)) == Code.APPROVED
    assert effects_of(bank.entries[-1])[0].proof == "A0000000AUTH"
    assert bank.code(proved("P00000000002", given)) == Code.WRONG_PROOF


@pytest.mark.parametrize(
    "change", [{"amount": 1051}, {"number": "4242424242424242"}, {"proof": "A0000000AUTHffffffffffffffffffff"}, {"proof": "nothing"}],
)  # fmt: skip
def test_a_proof_holds_for_its_card_and_amount_only(bank: Bank, change: dict[str, object]) -> None:
    """63, and nothing has happened."""
    given = proof(bank)
    assert bank.code(proved("P00000000001", str(change.pop("proof", given)), **change)) == Code.WRONG_PROOF  # type: ignore[arg-type]
    assert bank.spent("three_d_secure_frictionless") == 0


def test_a_proof_of_yesterday_does_not_hold(bank: Bank) -> None:
    """It is forgotten with its authentication."""
    given = proof(bank)
    bank.now = Micros(NOON + DAY + 1)
    bank.books.sweep(bank.now)
    assert bank.books.authentication(ACQUIRER, "A0000000AUTH") is None
    assert bank.code(proved("P00000000001", given)) == Code.WRONG_PROOF


def test_a_challenge_is_answered_once(bank: Bank) -> None:
    """The first answer counts; a memory that was read from the file again knows it."""
    bank.ask(authentication("A0000000AUTH", CHALLENGES))
    entry = answer_challenge(ACQUIRER, "A0000000AUTH", bank.books, bank.now, passed=True)
    assert entry is not None
    bank.make_true(entry)
    assert answer_challenge(ACQUIRER, "A0000000AUTH", bank.books, bank.now, passed=False) is None
    fresh = Books(Scheme())
    for line in bank.lines():
        read = decode_line(line)
        assert isinstance(read, Entry)
        fresh.apply(read)
    assert fresh.authentication(ACQUIRER, "A0000000AUTH") == bank.books.authentication(ACQUIRER, "A0000000AUTH")


def test_a_challenge_without_a_way_back_is_none(bank: Bank) -> None:
    """The buyer would be lost."""
    answer = bank.ask(authentication("A0000000AUTH", CHALLENGES, **{Tag.RETURNS_TO: ""}))
    assert tags(answer)[Tag.AUTHENTICATION_RESULT] == Authenticated.UNAVAILABLE


def test_a_challenge_that_the_merchant_wants_is_made(bank: Bank) -> None:
    """Also by an issuer that would have been content without."""
    answer = bank.ask(authentication("A0000000AUTH", FRICTIONLESS, **{Tag.WANTS_CHALLENGE: "1"}))
    assert tags(answer)[Tag.AUTHENTICATION_RESULT] == Authenticated.CHALLENGE


def test_an_authentication_cannot_be_captured_voided_reversed_or_refunded_into_money(bank: Bank) -> None:
    """It is no authorization, whatever message names it."""


    proof(bank)
    for message in (capture("C00000000001", "A0000000AUTH"), void("V00000000001", "A0000000AUTH"), refund("R00000000001", "A0000000AUTH")):
        assert bank.code(message) == Code.NOT_FOUND
    bank.ask(reversal("X00000000001", "A0000000AUTH"))
    assert bank.held("three_d_secure_frictionless") == bank.spent("three_d_secure_frictionless") == 0
