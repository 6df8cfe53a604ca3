"""What an answer means, and which answers are not believed."""

from typing import Any

import pytest

from guilder.core.outcome import Approved, Checks, Declined, NotFound, Outcome, Unknown
from guilder.iso8583 import Message, pack_tags
from guilder.psp import Operation, Order, original_of, query_about
from guilder.psp.connectors.cardnet.answers import outcome_of


def order(operation: Operation = Operation.PURCHASE, **changes: Any) -> Order:
    """An order for 10.50 EUR, with an original where one is needed."""
    fields: dict[str, Any] = {
        "attempt_id": "att_1", "operation": operation, "first": True, "account": "acct_1", "livemode": False,
        "psp_merchant": "M1", "amount_minor": 1050, "currency": "eur", "psp_key": "k", "reference": "0123456789AB",
        "transmitted_at": "0305102030", "stan": "000007",
    }  # fmt: skip
    return Order(**(fields | changes))


def answer(code: str, tags: dict[str, str] | None = None, **changes: str | None) -> Message:
    """An answer to `order()`, with fields changed (`de4="..."`) or left out (None)."""
    fields = {4: "000000001050", 37: "0123456789AB", 38: "ABC123", 39: code, 49: "978"}
    if tags:
        fields[48] = pack_tags(tags)
    for name, value in changes.items():
        fields.pop(int(name[2:]), None)
        if value is not None:
            fields[int(name[2:])] = value
    return Message("0210", fields)


def found(state: str, operation: Operation = Operation.PURCHASE, **tags: str) -> Outcome | NotFound:
    """What an inquiry about `order(operation)` makes of this state."""
    kind = {"AUTHORIZE": "authorization"}.get(operation.name, operation.value)
    told = {"RS": "00", "SS": state, "KD": kind} | tags
    return outcome_of(query_about(order(operation)), answer("00", told))


def test_an_approval_carries_what_the_issuer_said() -> None:
    """Codes, the scheme's id, the checks, and whether the funds are there at once."""
    outcome = outcome_of(order(), answer("00", {"TX": "123456789012345", "CC": "P", "CA": "F", "AV": "0"}))
    assert outcome == Approved(
        psp_reference="0123456789AB",
        authorization_code="ABC123",
        network_transaction_id="123456789012345",
        checks=Checks(cvc="pass", postal_code="fail"),
        available_now=True,
    )


def test_checks_that_were_not_made_are_none() -> None:
    """N is "not given"; no tag is no check."""
    outcome = outcome_of(order(), answer("00", {"TX": "1", "CC": "N", "CA": "U"}))
    assert isinstance(outcome, Approved)
    assert outcome.checks == Checks(cvc=None, postal_code="unavailable")
    assert outcome.available_now is False


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("5", 5), ("2592000", 2_592_000), ("2592001", None), ("9" * 30, None), ("0", None), ("-1", None), ("soon", None)],
)
def test_an_instant_to_ask_again_is_a_sensible_one_or_none(said: str, seconds: int | None) -> None:
    """What no calendar could hold would keep a refund that was paid from ever being booked."""
    outcome = outcome_of(order(Operation.REFUND), answer("00", {"FU": said}))
    assert isinstance(outcome, Approved)
    assert outcome.ask_again_seconds == seconds


@pytest.mark.parametrize(
    "changes",
    [{"de4": "000000001051"}, {"de4": None}, {"de49": "840"}, {"de49": None}],
)
@pytest.mark.parametrize("operation", [Operation.PURCHASE, Operation.CAPTURE, Operation.REFUND, Operation.REVERSAL])
def test_an_approval_of_other_money_is_not_believed(operation: Operation, changes: dict[str, Any]) -> None:
    """Another amount or currency, or none at all: unknown, mismatch."""
    assert outcome_of(order(operation), answer("00", **changes)) == Unknown("mismatch")


@pytest.mark.parametrize(
    ("code", "decline_code"),
    [
        ("05", "generic_decline"),
        ("06", "processing_error"),
        ("12", "transaction_not_allowed"),
        ("13", "invalid_amount"),
        ("14", "incorrect_number"),
        ("30", "processing_error"),
        ("41", "lost_card"),
        ("43", "stolen_card"),
        ("51", "insufficient_funds"),
        ("54", "expired_card"),
        ("61", "card_velocity_exceeded"),
        ("65", "authentication_required"),
        ("77", "processing_error"),
        ("79", "processing_error"),
        ("94", "processing_error"),
        ("N7", "incorrect_cvc"),
    ],
)
def test_a_definite_refusal_is_a_decline_with_our_code(code: str, decline_code: str) -> None:
    """The whole table of docs/iso8583.md, section 5."""
    outcome = outcome_of(order(), answer(code))
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.network_code, outcome.wants_authentication) == (decline_code, code, False)


@pytest.mark.parametrize("code", ["91", "96", "01", "02", "57", "82", "99", "ZZ", "25", "21"])
def test_a_code_that_is_not_on_the_list_leaves_a_purchase_unknown(code: str) -> None:
    """Undocumented codes too: only what is known to be definite closes an attempt."""
    assert outcome_of(order(), answer(code)) == Unknown("psp_error")


def test_an_answer_without_a_code_is_unknown() -> None:
    """It says nothing."""
    assert outcome_of(order(), answer("00", de39=None)) == Unknown("psp_error")


def test_in_progress_is_unknown_by_that_name() -> None:
    """Ask again later; nothing is wrong."""
    assert outcome_of(order(Operation.REFUND), answer("09", {"FU": "5"})) == Unknown("in_progress")


def test_a_decline_that_names_other_money_is_not_believed() -> None:
    """It may belong to another operation; naming none is fine."""
    assert outcome_of(order(), answer("51", de4="000000009999")) == Unknown("mismatch")
    assert isinstance(outcome_of(order(), answer("51", de4=None, de49=None)), Declined)


def test_a_soft_decline_wants_authentication() -> None:
    """Tag SC; the next authorization that carries a proof may pass."""
    outcome = outcome_of(order(), answer("65", {"SC": "1"}))
    assert isinstance(outcome, Declined)
    assert outcome.wants_authentication is True


@pytest.mark.parametrize(
    ("tag", "advice"),
    [("01", "confirm_card_data"), ("02", "try_again_later"), ("03", "do_not_try_again"), ("77", None)],
)
def test_advice_becomes_the_apis_word(tag: str, advice: str | None) -> None:
    """An advice that nobody knows is none."""
    outcome = outcome_of(order(), answer("05", {"AC": tag}))
    assert isinstance(outcome, Declined)
    assert outcome.advice == advice


@pytest.mark.parametrize(
    ("operation", "code", "kind"),
    [
        (Operation.VOID, "25", Approved),
        (Operation.VOID, "79", Approved),
        (Operation.VOID, "21", Declined),
        (Operation.REVERSAL, "21", Declined),
        (Operation.REVERSAL, "25", Unknown),
        (Operation.CAPTURE, "25", Declined),
        (Operation.REFUND, "25", Declined),
        (Operation.AUTHORIZE, "25", Unknown),
    ],
)
def test_some_codes_mean_something_for_some_operations_only(operation: Operation, code: str, kind: type) -> None:
    """Gone acknowledges a void; not found refuses a capture; for an authorization it means nothing."""
    assert isinstance(outcome_of(order(operation), answer(code)), kind)


def test_tags_that_cannot_be_read_leave_the_order_unknown() -> None:
    """The frame was whole, so only this one order is affected."""
    assert outcome_of(order(), answer("00", de48="nonsense")) == Unknown("unreadable")


def test_an_inquiry_that_finds_an_approval_approves() -> None:
    """With what the original answer said."""
    outcome = found("approved", TX="123456789012345")
    assert isinstance(outcome, Approved)
    assert (outcome.psp_reference, outcome.network_transaction_id) == ("0123456789AB", "123456789012345")


def test_an_inquiry_that_finds_a_decline_declines_with_the_original_code() -> None:
    """RS is the original's response code."""
    outcome = found("declined", RS="51")
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.network_code) == ("insufficient_funds", "51")


def test_an_inquiry_that_finds_a_decline_of_no_known_code_is_unknown() -> None:
    """The list of definite answers holds here too."""
    assert found("declined", RS="96") == Unknown("psp_error")


@pytest.mark.parametrize("state", ["reversed", "returned"])
def test_an_inquiry_that_finds_it_undone_declines(state: str) -> None:
    """No money is where the operation would have moved it; the advice says why."""
    outcome = found(state)
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.advice) == ("processing_error", state)


def test_an_inquiry_about_something_under_way_is_unknown() -> None:
    """Ask again."""
    assert found("in_progress") == Unknown("in_progress")


def test_an_inquiry_with_a_state_that_nobody_documented_is_unknown() -> None:
    """Never guessed."""
    assert found("settled") == Unknown("psp_error")


def test_an_inquiry_that_finds_nothing_says_so() -> None:
    """Which is not proof of absence: the caller decides."""
    assert outcome_of(query_about(order()), answer("25", de4=None, de49=None)) == NotFound()


@pytest.mark.parametrize("code", ["91", "96", "30", "77", "05"])
def test_an_inquiry_that_fails_says_nothing_about_the_original(code: str) -> None:
    """Codes that would decline an order are no statement about the one that is asked about."""
    assert outcome_of(query_about(order()), answer(code)) == Unknown("psp_error")


def test_an_inquiry_that_finds_another_kind_of_operation_is_not_believed() -> None:
    """A capture is no purchase."""
    told = {"RS": "00", "SS": "approved", "KD": "capture"}
    assert outcome_of(query_about(order()), answer("00", told)) == Unknown("mismatch")


def test_an_inquiry_that_finds_other_money_is_not_believed() -> None:
    """An approval of our reference with another amount goes to a reversal, not into the books."""
    told = {"RS": "00", "SS": "approved", "KD": "purchase"}
    assert outcome_of(query_about(order()), answer("00", told, de4="000000000001")) == Unknown("mismatch")


def test_a_query_keeps_what_it_asks_about() -> None:
    """Its outcome can be attributed."""
    assert query_about(order()).original == original_of(order())
