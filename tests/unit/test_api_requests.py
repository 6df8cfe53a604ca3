"""The parts that a request passes on its way: body, key, caller, fingerprint, expand, page, texts."""

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guilder.api import http, text
from guilder.api.auth import caller_of
from guilder.api.call import check_expand, page_of, problem_members
from guilder.api.fingerprint import fingerprint_of, fingerprint_of_bytes
from guilder.api.forms import parse_form
from guilder.api.http import Reply, timeout_micros
from guilder.api.openapi import document
from guilder.api.params import Created, ListParams
from guilder.api.routes import registry
from guilder.core.errors import ErrorFacts, Refusal
from guilder.merchants import Caller
from guilder.security import Pan, PurposeKeys
from guilder.shapes import facts
from guilder.shapes.previous import previous_attributes


def test_a_reply_bears_its_headers() -> None:
    """Each at most once, and only where it means something."""
    reply = Reply(body=b"{}", status=503, replayed=True, should_retry=True, retry_after=1)
    sent = http.outgoing_of(reply, "req_1", key="k")
    headers = dict(sent.headers)
    assert len(headers) == len(sent.headers)
    assert headers[b"request-id"] == b"req_1"
    assert headers[b"idempotency-key"] == b"k"
    assert (headers[b"idempotent-replayed"], headers[b"stripe-should-retry"], headers[b"retry-after"]) == (b"true", b"true", b"1")
    assert (sent.status, sent.body) == (503, b"{}")
    assert b"stripe-account" not in headers


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [(b"", False), (b"application/x-www-form-urlencoded", False), (b"Application/JSON; charset=utf-8", True)],
)
def test_two_content_types_are_read(content_type: bytes, is_json: bool) -> None:
    """A request without one is a form."""
    assert http.is_json({b"content-type": content_type} if content_type else {}) is is_json


@pytest.mark.parametrize("content_type", [b"text/plain", b"multipart/form-data; boundary=x", b"application/jsonx", b";"])
def test_other_content_types_are_refused(content_type: bytes) -> None:
    """With the two that are right."""
    if content_type == b";":
        assert http.is_json({b"content-type": content_type}) is False
        return
    with pytest.raises(Refusal, match="content type"):
        http.is_json({b"content-type": content_type})


async def known(secret: str) -> Caller | None:
    return Caller("acct_1", False, "secret", "key_1") if secret == "sk_test_good" else None


@pytest.mark.parametrize(
    "header",
    [b"Bearer sk_test_good", b"bearer  sk_test_good", b"Basic " + base64.b64encode(b"sk_test_good:"),
     b"Basic " + base64.b64encode(b"sk_test_good:ignored"), b"Basic " + base64.b64encode(b"sk_test_good")],
)  # fmt: skip
async def test_a_key_comes_as_bearer_or_as_the_user_of_basic(header: bytes) -> None:
    """As SDKs and as curl send it."""
    assert (await caller_of({b"authorization": header}, known)).account == "acct_1"


@given(st.binary(max_size=80))
def test_any_authorization_is_a_caller_or_401(header: bytes) -> None:
    """Never another error; a long secret never in full."""
    try:
        caller = asyncio.run(caller_of({b"authorization": header}, known))
    except Refusal as refusal:
        status, message = refusal.status, str(refusal)
    else:
        status, message = 401, caller.account
    assert status == 401
    assert len(header) < 40 or header[12:].decode("latin-1") not in message


# --- fingerprints ---------------------------------------------------------------------------------------------------

KEYS = PurposeKeys(b"k" * 32)


async def prints(numbers: Any) -> list[str]:
    return [f"print of {number.reveal()}" for number in numbers]


async def fingerprint(form: str, *, path: str = "/v1/payment_methods") -> bytes:
    return await fingerprint_of("POST", path, parse_form(form), keyed=KEYS.fingerprint, card_fingerprints=prints)


async def test_the_order_of_parameters_does_not_matter_and_everything_else_does() -> None:
    """Names, values, structure and the address."""
    one = await fingerprint("a=1&b[c]=2")
    assert await fingerprint("b[c]=2&a=1") == one
    others = [await fingerprint(form) for form in ("a=1&b[c]=3", "a=1&b=2", "a=1", "a=1&b[c]=2&d=", "a=1&b[0]=2")]
    others += [
        await fingerprint("a=1&b[c]=2", path="/v1/customers"),
        fingerprint_of_bytes("POST", "/v1/x", b"a=1", KEYS.fingerprint),
    ]
    assert one not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("prefix", ["card", "payment_method_data[card]"])
async def test_a_card_counts_by_its_print_and_a_cvc_not_at_all(prefix: str) -> None:
    """So no hash of a card number is ever stored under our own key."""
    one = await fingerprint(f"{prefix}[number]=4242424242424242&{prefix}[cvc]=123")
    assert await fingerprint(f"{prefix}[number]=4242 4242 4242 4242&{prefix}[cvc]=321") == one
    assert await fingerprint(f"{prefix}[number]=4242424242424242") == one
    assert await fingerprint(f"{prefix}[number]=5555555555554444") != one


@given(
    st.sampled_from(["card=x", "card[number][a]=1", "card[]=1", "card[number]=", "payment_method_data=1", "card[number]=12ab"])
)
def test_card_data_of_any_form_has_a_fingerprint(form: str) -> None:
    """What it is worth is the validator's question."""
    assert len(asyncio.run(fingerprint(form))) == 32


def test_card_numbers_are_masked_types_once_they_are_read() -> None:
    """An error that prints its parameters prints no number."""
    from guilder.api.params import read
    from guilder.api.payment_methods import Create

    read_one = read(
        parse_form("type=card&card[number]=4242424242424242&card[exp_month]=1&card[exp_year]=40&card[cvc]=123"), Create
    )
    assert isinstance(read_one.card.number, Pan)
    assert "4242424242" not in repr(read_one)
    assert "123" not in repr(read_one.card.cvc)


# --- lists and texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("created", "since", "until"),
    [(5, 5, 6), (Created(gte=5), 5, None), (Created(gt=5), 6, None), (Created(lt=9), None, 9), (Created(lte=9), None, 10),
     (Created(gt=5, gte=9, lt=20, lte=15), 9, 16)],
)  # fmt: skip
def test_created_becomes_a_range_of_seconds(created: Any, since: int | None, until: int | None) -> None:
    """From its first second, to before its last."""
    page = page_of(ListParams(created=created))
    assert (page.since, page.until) == (since, until)


def test_a_lists_expand_begins_with_data() -> None:
    """And the message says so."""
    assert check_expand(["data.customer"], "payment_intent", of_list=True) == ("customer",)
    assert check_expand(["customer"], "payment_intent", of_list=False) == ("customer",)
    with pytest.raises(Refusal, match=r"try expanding 'data\.customer'"):
        check_expand(["customer"], "payment_intent", of_list=True)
    with pytest.raises(Refusal, match=r"cannot be expanded \(amount\)"):
        check_expand(["amount"], "payment_intent", of_list=False)


@pytest.mark.parametrize("email", ["a@b.de", "ada.lovelace+x@mail.example.com"])
def test_mail_addresses_pass(email: str) -> None:
    """Whether they receive mail nobody can know."""
    text.check_email(email, "email")
    text.check_email(None, "email")


@pytest.mark.parametrize("email", ["", "a", "a@", "@b.de", "a@b", "a b@c.de", "a@b.de\n", "a@b..de", "x" * 512 + "@b.de"])
def test_what_is_no_mail_address_is_refused(email: str) -> None:
    """400 email_invalid."""
    with pytest.raises(Refusal) as refused:
        text.check_email(email, "email")
    assert (refused.value.facts.code, refused.value.facts.param) == ("email_invalid", "email")


@pytest.mark.parametrize("url", ["https://example.com/x?y=1", "http://127.0.0.1:8421/", "myapp://done"])
def test_addresses_pass(url: str) -> None:
    """Of the web and of apps."""
    text.check_url(url, "return_url")


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "//example.com",
        "https://",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://a b.de",
        "http://[",
        "x" * 3000,
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Above all what a browser would run."""
    with pytest.raises(Refusal) as refused:
        text.check_url(url, "return_url")
    assert refused.value.facts.code == "url_invalid"


@given(st.text(max_size=40))
def test_any_text_is_judged_without_an_error(value: str) -> None:
    """Accepted or refused, nothing else."""
    for check in (text.check_email, text.check_url, text.check_descriptor):
        try:
            check(value, "x")
        except Refusal as refusal:
            assert refusal.facts.param == "x"  # noqa: PT017 - either outcome is right


def test_problem_members_repeat_the_error() -> None:
    """RFC 9457: type, title, status, detail, instance."""
    error = ErrorFacts(type="invalid_request_error", message="No.", code="amount_too_small")
    assert problem_members(400, error, "req_1") == {
        "type": "urn:guilder:error:amount_too_small", "title": "Bad request", "status": 400, "detail": "No.",
        "instance": "urn:guilder:request:req_1",
    }  # fmt: skip


# --- what is made from the registry and from facts ------------------------------------------------------------------


def test_the_document_lists_every_route_with_its_parameters() -> None:
    """Made from the registry that routes; every reference resolves."""
    routes = registry()
    shown = json.loads(document(routes))
    assert {(method.upper(), path) for path, item in shown["paths"].items() for method in item} == {
        (route.method, route.path) for route in routes.routes
    }
    ids = [operation["operationId"] for item in shown["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)
    known_names = set(shown["components"]["schemas"])
    references = {part_.split('"')[0] for part_ in json.dumps(shown).split("#/components/schemas/")[1:]}
    assert references <= known_names
    create = shown["components"]["schemas"]["payment_params.Create"]
    assert set(create["required"]) == {"amount", "currency"}
    assert create["additionalProperties"] is False


def test_what_changed_is_told_member_by_member_and_nothing_personal() -> None:
    """null for a member that is new; names and addresses are not repeated in the clear."""
    before = facts.CustomerFacts("cus_1", False, 1, personal="prs_1", metadata=(("a", "1"), ("b", "2")))
    after = facts.CustomerFacts(
        "cus_1",
        False,
        1,
        personal="prs_2",
        metadata=(("a", "2"), ("c", "3")),
        default_payment_method="pm_1",
    )
    assert json.loads(previous_attributes(before, after)) == {
        "invoice_settings": {"default_payment_method": None},
        "metadata": {"a": "1", "b": "2", "c": None},
    }


@pytest.mark.parametrize(("said", "micros"), [(b"", None), (b"2.5", 2_500_000), (b" 600 ", 600_000_000), (b"0.000001", 1)])
def test_a_client_may_say_how_long_it_waits(said: bytes, micros: int | None) -> None:
    """In seconds, to the microsecond."""
    assert timeout_micros({b"request-timeout": said}) == micros


@pytest.mark.parametrize("said", [b"0", b"-1", b"601", b"2500", b"1e3", b"nan", b"soon", b"1,5", "²".encode()])
def test_a_timeout_that_is_none_is_refused_by_the_headers_name(said: bytes) -> None:
    """Milliseconds would mean that nobody ever stops waiting."""
    with pytest.raises(Refusal, match="Request-Timeout must be seconds"):
        timeout_micros({b"request-timeout": said})
