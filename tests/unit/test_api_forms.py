"""Bodies and queries become one tree; what cannot be read is refused by the parameter's name."""

import contextlib
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import qs_codec
from hypothesis import given
from hypothesis import strategies as st

from guilder.api.forms import COUNT_MAX, as_texts, parse_form, parse_json
from guilder.core.errors import Refusal

READABLE: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("amount=10&currency=eur", {"amount": "10", "currency": "eur"}),
    ("description=two+words%20here", {"description": "two words here"}),
    ("description=", {"description": None}),
    ("description", {"description": None}),
    ("&&a=1&", {"a": "1"}),
    ("a[b]=1&a[c]=2", {"a": {"b": "1", "c": "2"}}),
    ("a%5Bb%5D=1&a%5bc%5d=2", {"a": {"b": "1", "c": "2"}}),
    ("a[]=1&a[]=2", {"a": ["1", "2"]}),
    ("a[0]=x&a[1]=y", {"a": ["x", "y"]}),
    ("a[1]=y&a[0]=x", {"a": ["x", "y"]}),
    ("a[0][b]=1&a[1][b]=2", {"a": [{"b": "1"}, {"b": "2"}]}),
    ("a[][b]=1&a[][c]=2&a[][b]=3", {"a": [{"b": "1", "c": "2"}, {"b": "3"}]}),
    ("metadata[0]=x&metadata[7]=y", {"metadata": {"0": "x", "7": "y"}}),
    ("metadata=", {"metadata": None}),
    ("metadata[k]=", {"metadata": {"k": None}}),
    ("a[b][c][d][e][f]=1", {"a": {"b": {"c": {"d": {"e": {"f": "1"}}}}}}),
    ("a=%C3%A9&b=\u00e9", {"a": "é", "b": "é"}),
    ("a=1%2B1=2", {"a": "1+1=2"}),
]


@pytest.mark.parametrize(("text", "tree"), READABLE)
def test_forms_become_trees(text: str, tree: dict[str, Any]) -> None:
    """Brackets encoded or not, lists with and without indices, the empty text as unset."""
    assert parse_form(text.encode()) == tree


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"a=1&a=2", "a"),
        (b"a=1&a[b]=2", "a[b]"),
        (b"a[b]=1&a=2", "a"),
        (b"a[b]=1&a[0]=2", "a[0]"),
        (b"a[b]=&a[b][c]=2", "a[b][c]"),
        (b"a[b", "a[b"),
        (b"a]b=1", "a]b"),
        (b"[a]=1", "[a]"),
        (b"a[b]c=1", "a[b]c"),
        (b"a[[b]]=1", "a[[b]]"),
        (b"a[b][c][d][e][f][g]=1", "a[b][c][d][e][f][g]"),
        (b"a[b]=%00", "a[b]"),
        (b"a%00=1", "a"),
        (b"a[b]=%ff", "a[b]"),
        (b"a=\xff", "a"),
        (b"a[b]=%ed%a0%80", "a[b]"),
        (b"k" * 300 + b"=1", "k" * 100 + "..."),
        (b"=x", None),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(body: bytes, param: str | None) -> None:
    """Twice, malformed, too deep, too long, NUL, broken UTF-8 and half of a surrogate pair."""
    with pytest.raises(Refusal) as refused:
        parse_form(body)
    assert (refused.value.status, refused.value.facts.param) == (400, param)


def test_too_many_parameters_are_refused() -> None:
    """Before any work is done on them."""
    body = "&".join(f"a{number}=1" for number in range(COUNT_MAX + 1)).encode()
    with pytest.raises(Refusal, match=str(COUNT_MAX)):
        parse_form(body)
    assert len(parse_form(body, COUNT_MAX + 1)) == COUNT_MAX + 1


@pytest.mark.parametrize(
    ("body", "tree"),
    [
        (b"", {}),
        (b"  {}", {}),
        (
            b'{"amount": 10, "confirm": true, "a": {"b": [1, "x", null]}}',
            {"amount": 10, "confirm": True, "a": {"b": [1, "x", None]}},
        ),
        (b'{"description": null, "name": ""}', {"description": None, "name": None}),
        (b'{"amount": 1.0, "big": 123456789012345678901234567890}', {"amount": 1.0, "big": 123456789012345678901234567890}),
        (b'{"metadata": {"0": "x"}}', {"metadata": {"0": "x"}}),
    ],
)
def test_json_becomes_a_tree_that_keeps_its_types(body: bytes, tree: dict[str, Any]) -> None:
    """null and the empty text unset, as in a form."""
    assert parse_json(body) == tree


def test_both_encodings_have_one_form_to_be_compared_by() -> None:
    """A retry in the other encoding is the same request."""
    form = parse_form("amount=10&confirm=true&shipping[name]=x&expand[]=a&metadata[k]=")
    body = b'{"amount": 10, "confirm": true, "shipping": {"name": "x"}, "expand": ["a"], "metadata": {"k": ""}}'
    assert as_texts(parse_json(body)) == as_texts(form) == form


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"[]", None),
        (b"1", None),
        (b"{", None),
        (b"\xff", None),
        (b'{"a": "\xff"}', None),
        (b'{"a": NaN}', None),
        (b'{"a":' + b"[" * 100_000, None),
        (b'{"a": {"b": "\\u0000"}}', "a[b]"),
        (b'{"a\\u0000": 1}', "a"),
        (b'{"a": {"b": ["x", "\\ud800"]}}', "a[b][1]"),
        (b'{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}', "a[a][a][a][a][a]"),
    ],
)
def test_json_that_is_no_object_of_texts_is_refused(body: bytes, param: str | None) -> None:
    """By the parameter's name where there is one."""
    with pytest.raises(Refusal) as refused:
        parse_json(body)
    assert (refused.value.status, refused.value.facts.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"amount": 1, "amount": 2}', "amount"),
        (b'{"amount": 1, "amo\\u0075nt": 1}', "amount"),
        (b'{"": 1, "": 2}', ""),
        (b'{"card": {"number": "a", "number": "b"}}', "card[number]"),
        (b'{"card": {"number": "a"}, "card": {}}', "card"),
        (b'{"card": {"number": "a", "number": "b"}, "card": {}}', "card"),
        (b'{"transfers": [{"id": "a"}, {"id": "b", "amount": 1, "id": "c"}]}', "transfers[1][id]"),
        (b'{"metadata": {"k": null, "k": null}}', "metadata[k]"),
        (b'{"4242424242424242": 1, "4242424242424242": 2}', "***"),
    ],
)
def test_a_parameter_that_json_gives_twice_is_refused_as_in_a_form(body: bytes, param: str) -> None:
    """Neither the first nor the last one is taken, however deep it stands and however it is written."""
    with pytest.raises(Refusal) as refused:
        parse_json(body)
    facts = refused.value.facts
    assert (refused.value.status, facts.param) == (400, param)
    assert "given more than once" in facts.message


def test_a_number_that_python_will_not_read_is_refused() -> None:
    """Five thousand digits are no parameter of ours."""
    with pytest.raises(Refusal) as refused:
        parse_json(b'{"amount": ' + b"9" * 5_000 + b"}")
    assert refused.value.status == 400


# --- the oracle -----------------------------------------------------------------------------------------------------

NAMES = st.text("abcxyz_", min_size=1, max_size=6)
LEAVES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        # No list directly in a list: no parameter is one, and the oracle itself reads `a[0][0]=x&a[0][1]=y` as two lists.
        lambda below: (
            st.dictionaries(NAMES, below, min_size=1, max_size=3)
            | st.lists(below.filter(lambda one: not isinstance(one, list)), min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=5,
)


def flat(value: Any, name: str) -> list[tuple[str, str]]:
    """A tree as the SDKs write it: objects and lists with names and indices in brackets."""
    if isinstance(value, dict):
        return [pair for key, member in value.items() for pair in flat(member, f"{name}[{key}]" if name else key)]
    if isinstance(value, list):
        return [pair for index, member in enumerate(value) for pair in flat(member, f"{name}[{index}]")]
    return [(name, value)]


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max((depth(one) for one in (value.values() if isinstance(value, dict) else value)), default=0)
    return 0


@given(TREES, st.booleans())
def test_the_parser_agrees_with_the_oracle(tree: dict[str, Any], encoded: bool) -> None:
    """qs-codec reads what SDKs write; so do we, brackets encoded or raw."""
    if depth(tree) > 6:
        return
    pairs = flat(tree, "")
    text = urlencode(pairs) if encoded else "&".join(f"{name}={quote(value)}" for name, value in pairs)
    assert parse_form(text) == qs_codec.decode(text, qs_codec.DecodeOptions(depth=10, parameter_limit=10_000)) == tree


@given(TREES)
def test_json_and_form_of_the_same_request_are_the_same_tree(tree: dict[str, Any]) -> None:
    """A retry in the other encoding is the same request."""
    if depth(tree) <= 6:
        assert parse_json(json.dumps(tree).encode()) == parse_form(urlencode(flat(tree, "")))


@given(st.binary(max_size=200) | st.text("ab[]=&%0f+", max_size=60).map(str.encode))
def test_any_bytes_give_a_tree_or_a_refusal(body: bytes) -> None:
    """Never another error, whatever arrives."""
    for parse in (parse_form, parse_json):
        with contextlib.suppress(Refusal):
            json.dumps(parse(body)).encode()
