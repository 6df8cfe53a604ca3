"""Facts become the bytes that Stripe's schema allows, the same ones for ever."""

import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import shape_samples as samples

from guilder.core.errors import ErrorFacts
from guilder.shapes.facts import Answer, EventFacts, decode_answer, encode
from guilder.shapes.render import (
    API_VERSION,
    EventHeader,
    event_json,
    personal_ids,
    render_answer,
    render_error,
    render_list,
    render_object,
)

VALIDATOR = Path(__file__).parents[3] / "shared" / "tools" / "validate_stripe.py"


@pytest.fixture(scope="module")
def validator() -> ModuleType:
    """The schema check, where its folder is present."""
    if not VALIDATOR.exists():
        pytest.skip(f"no schema check here: {VALIDATOR} is not part of the project")
    spec = importlib.util.spec_from_file_location("validate_stripe", VALIDATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(answer: Answer, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(render_answer(answer, samples.PERSONAL, **options))
    return result


@pytest.mark.parametrize(
    "line", (samples.GOLDEN / "shape_1.jsonl").read_text().splitlines(), ids=lambda line: json.loads(line)["name"]
)
def test_stored_answers_of_shape_1_render_to_the_same_bytes_for_ever(line: str) -> None:
    """The golden file holds the stored bytes and what clients were sent for them."""
    golden = json.loads(line)
    answer = decode_answer(base64.b64decode(golden["stored"]))
    assert render_answer(answer, samples.PERSONAL).decode() == golden["rendered"]


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_every_answer_is_valid_by_the_published_schema(name: str, validator: ModuleType) -> None:
    """Also nested objects, errors and what is left of a deleted customer."""
    assert validator.validate(parsed(samples.SAMPLES[name])) == []


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_answers_survive_storing(name: str) -> None:
    """Facts are stored, bytes are made when they are read."""
    answer = samples.SAMPLES[name]
    assert decode_answer(encode(answer)) == answer


def test_expanded_objects_stand_in_place_of_their_ids() -> None:
    """Three levels deep, inside nested fields, and as an embedded list."""
    shown = parsed(samples.SAMPLES["payment_intent_expanded"])
    assert shown["customer"]["invoice_settings"]["default_payment_method"]["card"]["last4"] == "4242"
    assert shown["latest_charge"]["balance_transaction"]["source"]["id"] == "ch_1"
    assert shown["latest_charge"]["balance_transaction"]["source"]["balance_transaction"] == "txn_1"
    assert [refund["id"] for refund in shown["latest_charge"]["refunds"]["data"]] == ["re_2", "re_1"]
    assert shown["latest_charge"]["refunds"]["url"] == "/v1/charges/ch_1/refunds"
    assert shown["payment_method"]["id"] == "pm_1"


def test_erased_personal_data_shows_as_null() -> None:
    """The facts stay, the records they point to are gone."""
    shown = json.loads(render_answer(samples.SAMPLES["payment_intent_expanded"], {}))
    assert shown["receipt_email"] is None
    assert shown["shipping"] is None
    assert shown["customer"]["name"] is None
    assert shown["latest_charge"]["billing_details"]["address"]["line1"] is None


def test_a_decline_carries_the_payment_and_the_method_that_failed() -> None:
    """Clients read error.payment_intent on a 402."""
    error = parsed(samples.SAMPLES["decline"])["error"]
    assert error["payment_intent"]["id"] == "pi_3"
    assert error["payment_intent"]["last_payment_error"]["decline_code"] == "insufficient_funds"
    assert error["payment_method"]["id"] == "pm_1"
    assert error["charge"] == "ch_2"


def test_a_publishable_key_sees_less() -> None:
    """No metadata, no customer, no charge, no fingerprint."""
    shown = parsed(Answer(1, 200, samples.PAYMENT), client_side=True)
    assert "metadata" not in shown
    assert "customer" not in shown
    assert "latest_charge" not in shown
    assert shown["client_secret"] == "pi_1_secret_x"
    assert parsed(Answer(1, 200, samples.METHOD), client_side=True)["card"]["fingerprint"] is None
    declined = parsed(samples.SAMPLES["decline"], client_side=True)
    assert declined["error"]["payment_intent"]["last_payment_error"]["payment_method"]["card"]["fingerprint"] is None


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        ("payment_intent_waiting", 15000),
        ("payment_intent_canceled", 5),
        ("payment_intent_in_doubt", 1500),
        ("refund_pending", 500),
    ],
)
def test_amounts_are_written_as_stripe_counts_them(name: str, amount: int) -> None:
    """Krona and shilling with two digits that do not exist, ariary without the two that do."""
    assert parsed(samples.SAMPLES[name])["amount"] == amount


def test_net_is_amount_less_fee() -> None:
    """And refunds are negative."""
    entry = parsed(samples.SAMPLES["balance_transaction"])
    assert (entry["amount"], entry["fee"], entry["net"], entry["status"]) == (1999, 30, 1969, "pending")
    assert parsed(samples.SAMPLES["balance_transaction_of_refund"])["net"] == -999


def test_in_doubt_is_said_under_our_own_key_only() -> None:
    """Stripe's schema has no word for it."""
    assert parsed(samples.SAMPLES["payment_intent_in_doubt"])["guilder"] == {"in_doubt": True}
    assert "guilder" not in parsed(samples.SAMPLES["payment_intent"])


def test_an_event_holds_its_object_and_what_it_was_before(validator: ModuleType) -> None:
    """previous_attributes only on *.updated."""
    header = EventHeader(
        id="evt_1", type="charge.updated", created=1767225601, livemode=False, request_id="req_1", idempotency_key="k"
    )
    shown = json.loads(bytes(event_json(header, EventFacts(1, samples.CHARGE, b'{"metadata":{"order":null}}'), samples.PERSONAL)))
    assert validator.validate(shown) == []
    assert shown["api_version"] == API_VERSION
    assert shown["data"]["previous_attributes"] == {"metadata": {"order": None}}
    assert shown["request"] == {"id": "req_1", "idempotency_key": "k"}
    without = json.loads(bytes(event_json(header, EventFacts(1, samples.CHARGE), {})))
    assert "previous_attributes" not in without["data"]


def test_a_list_has_a_relative_url(validator: ModuleType) -> None:
    """SDKs page on by it and refuse anything but a path."""
    body = render_list([samples.PAYMENT, samples.BARE_PAYMENT], {}, url="/v1/payment_intents", has_more=True)
    shown = json.loads(body)
    assert (shown["object"], shown["has_more"], shown["url"], len(shown["data"])) == ("list", True, "/v1/payment_intents", 2)
    assert validator.validate(shown) == []


def test_errors_may_carry_problem_members() -> None:
    """RFC 9457 beside Stripe's object, for those who asked."""
    body = json.loads(render_error(ErrorFacts(type="api_error", message="No."), {"status": 500, "title": "Internal error"}))
    assert body == {"error": {"type": "api_error", "message": "No."}, "status": 500, "title": "Internal error"}


def test_the_personal_records_of_what_is_shown_are_named() -> None:
    """One look opens them all."""
    assert personal_ids([samples.PAYMENT, samples.CHARGE, samples.CUSTOMER, samples.BARE_PAYMENT, samples.BALANCE]) == {
        "psn_payment", "psn_billing", "psn_customer",
    }  # fmt: skip
    assert personal_ids([samples.DECLINED_PAYMENT]) == {"psn_billing"}


def test_an_object_that_was_read_is_rendered_like_an_answer() -> None:
    """One shape, however it is asked for."""
    assert render_object(samples.CHARGE, samples.PERSONAL) == render_answer(samples.SAMPLES["charge"], samples.PERSONAL)
