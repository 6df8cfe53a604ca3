"""From texts to typed parameters; each mistake has its code, its param and a message that says what would be right."""

from typing import Annotated, Literal

import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from guilder.api.forms import parse_form, parse_json
from guilder.api.params import Id, ListParams, Metadata, Numeral, Params, read
from guilder.core.errors import Refusal


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object inside the parameters."""

    number: Id
    exp_month: int


class Sample(Params, frozen=True, kw_only=True):
    """One parameter of each kind."""

    amount: int
    confirm: bool = False
    mode: Literal["automatic", "manual"] | UnsetType = UNSET
    usage: Literal["on_session", "off_session"] | UnsetType | None = UNSET
    note: Annotated[str, Meta(max_length=5)] | UnsetType | None = UNSET
    card: Card | UnsetType = UNSET
    cards: Annotated[tuple[Card, ...], Meta(max_length=2)] = ()
    metadata: Metadata = UNSET
    month: Numeral | UnsetType = UNSET


def sample(text: str) -> Sample:
    return read(parse_form(text), Sample)


def test_texts_become_values() -> None:
    """Numbers, booleans, lists, objects; what is not there stays unset, what is empty becomes None."""
    got = sample(
        "amount=10&confirm=true&mode=manual&usage=&note=&card[number]=1&card[exp_month]=2&metadata[a]=&metadata[b]=null&expand[]=x"
    )
    assert got == Sample(
        amount=10, confirm=True, mode="manual", usage=None, note=None, card=Card(number="1", exp_month=2),
        metadata={"a": None, "b": "null"}, expand=("x",),
    )  # fmt: skip
    assert sample("amount=-5&metadata=") == Sample(amount=-5, metadata=None)
    assert sample("amount=1&month=05") == Sample(amount=1, month="05")


@pytest.mark.parametrize(
    ("text", "code", "param", "says"),
    [
        ("", "parameter_missing", "amount", "Missing required param: amount"),
        ("amount=", "parameter_invalid_empty", "amount", "empty string"),
        ("amount=1.0", "parameter_invalid_integer", "amount", "Invalid integer: 1.0"),
        ("amount=1e3", "parameter_invalid_integer", "amount", "plain digits"),
        ("amount=1e400", "parameter_invalid_integer", "amount", "Invalid integer: 1e400; write a whole number"),
        ("amount=0010", "parameter_invalid_integer", "amount", "without leading zeros"),
        ("amount=1&confirm=1e400", None, "confirm", "Invalid boolean: 1e400"),
        ("amount=+10", "parameter_invalid_integer", "amount", "Invalid integer"),
        ("amount=%2B10", "parameter_invalid_integer", "amount", "Invalid integer: +10"),
        ("amount=null", "parameter_invalid_integer", "amount", "Invalid integer: null"),
        ("amount=true", "parameter_invalid_integer", "amount", "Invalid integer: true"),
        ("amount[a]=1", "parameter_invalid_integer", "amount", "an object"),
        ("amount=1&what=2&ever[a]=3", "parameter_unknown", "what", "Received unknown parameters: what, ever"),
        ("amount=1&card[number]=1&card[exp_month]=1&card[pin]=2", "parameter_unknown", "card[pin]", "parameter: card[pin]"),
        ("amount=1&card[number]=1", "parameter_missing", "card[exp_month]", "Missing required param: card[exp_month]"),
        ("amount=1&card[number]=1&card[exp_month]=1.0", "parameter_invalid_integer", "card[exp_month]", "1.0"),
        ("amount=1&card=x", None, "card", "card[name]=..."),
        ("amount=1&cards=x", None, "cards", "takes a list"),
        ("amount=1&cards[][number]=1&cards[][exp_month]=1&cards[][number]=1&cards[][exp_month]=x", "parameter_invalid_integer",
         "cards[1][exp_month]", "x"),
        ("amount=1&confirm=maybe", None, "confirm", "must be true or false"),
        ("amount=1&confirm=", "parameter_invalid_empty", "confirm", "cannot be unset"),
        ("amount=1&mode=x", None, "mode", "must be one of automatic or manual"),
        ("amount=1&mode=", "parameter_invalid_empty", "mode", "cannot be unset"),
        ("amount=1&usage=x", None, "usage", "off_session or on_session"),
        ("amount=1&note=123456", None, "note", "at most 5 characters"),
        ("amount=1&note[]=1", None, "note", "takes one text, not a list"),
        ("amount=1&metadata=x", None, "metadata", "metadata[name]=..."),
        ("amount=1&metadata[a][b]=x", None, "metadata[a]", "not an object"),
        ("amount=1&metadata[]=x", None, "metadata", "must not be empty"),
        ("amount=1&metadata[" + "k" * 41 + "]=x", None, "metadata", "at most 40 characters"),
        ("amount=1&metadata[k]=" + "x" * 501, None, "metadata[k]", "at most 500 characters"),
        ("amount=1&" + "&".join(f"metadata[k{n}]=1" for n in range(51)), None, "metadata", "at most 50 keys"),
        ("amount=1&expand=x", None, "expand", "takes a list"),
        ("amount=1&" + "&".join("expand[]=x" for n in range(21)), None, "expand", "at most 20 members"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(text: str, code: str | None, param: str, says: str) -> None:
    """Status 400, the code where there is one, the parameter as the client wrote it."""
    with pytest.raises(Refusal) as refused:
        sample(text)
    facts = refused.value.facts
    assert (refused.value.status, facts.type, facts.code, facts.param) == (400, "invalid_request_error", code, param)
    assert says in facts.message


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"amount": "10"}', "parameter_invalid_integer", "amount"),
        (b'{"amount": 1.0}', "parameter_invalid_integer", "amount"),
        (b'{"amount": true}', "parameter_invalid_integer", "amount"),
        (b'{"amount": null}', "parameter_invalid_empty", "amount"),
        (b'{"amount": 1, "confirm": 1}', None, "confirm"),
        (b'{"amount": 1, "note": 5}', None, "note"),
        (b'{"amount": 1, "metadata": {"a": 5}}', None, "metadata[a]"),
        (b'{"amount": 1, "month": "x"}', "parameter_invalid_integer", "month"),
        (b'{"amount": 1, "month": 1.5}', "parameter_invalid_integer", "month"),
    ],
)
def test_in_json_a_number_is_a_number(body: bytes, code: str | None, param: str) -> None:
    """JSON has types, so it is held to them."""
    with pytest.raises(Refusal) as refused:
        read(parse_json(body), Sample, strict=True)
    assert (refused.value.facts.code, refused.value.facts.param) == (code, param)
    assert read(parse_json(b'{"amount": 10, "note": "", "confirm": true}'), Sample, strict=True) == Sample(
        amount=10, note=None, confirm=True
    )


@pytest.mark.parametrize(
    ("text", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("created=x", "created"),
     ("created[gt]=x", "created[gt]"),
     ("created[gte]=99999999999999", "created[gte]"), ("created[gt]=1.5", "created[gt]")],
)  # fmt: skip
def test_lists_take_whole_numbers_within_bounds(text: str, param: str) -> None:
    """limit 1 to 100; created as a moment or a range."""
    with pytest.raises(Refusal) as refused:
        read(parse_form(text), ListParams)
    assert (refused.value.facts.code, refused.value.facts.param) == ("parameter_invalid_integer", param)


@pytest.mark.parametrize(
    "text", ["amount=4242424242424242x", "amount=1&mode=4242 4242 4242 4242", "amount=1&confirm=4242424242424242"]
)
def test_a_card_number_that_went_astray_is_not_repeated(text: str) -> None:
    """Messages are logged and mailed by clients."""
    with pytest.raises(Refusal) as refused:
        sample(text)
    assert "4242424242" not in refused.value.facts.message
