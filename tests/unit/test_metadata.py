"""Metadata after a request: one rule for customers, payments, orders, endpoints and readers."""

import pytest
from msgspec import UNSET

from guilder.core.errors import Refusal
from guilder.shapes.metadata import METADATA_KEYS_MAX, merged

BEFORE = (("a", "1"), ("b", "2"))


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (UNSET, BEFORE),
        (None, ()),
        ({}, BEFORE),
        ({"b": "3", "c": "4"}, (("a", "1"), ("b", "3"), ("c", "4"))),
        ({"a": None}, (("b", "2"),)),
        ({"a": ""}, (("b", "2"),)),
    ],
)
def test_named_keys_are_replaced_and_what_is_not_sent_stays(change, after):
    """An empty value deletes a key, null as a whole all of them; order is that of the first naming."""
    assert merged(BEFORE, change) == after


def test_more_keys_than_there_may_be_are_refused_with_their_number():
    """Counted after the merge: what a request deletes makes room."""
    full = tuple((f"k{number}", "v") for number in range(METADATA_KEYS_MAX))
    assert len(merged(full, {"k0": None, "new": "v"})) == METADATA_KEYS_MAX
    with pytest.raises(Refusal, match=r"Metadata can have at most 50 keys; this would make it 51\.") as refused:
        merged(full, {"new": "v"})
    assert refused.value.facts.param == "metadata"
