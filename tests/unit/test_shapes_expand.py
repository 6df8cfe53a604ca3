"""What expand may ask for, and what must be loaded for it."""

import pytest
import shape_samples as samples

from guilder.shapes.expand import EXPANDABLE, NEVER, tree_of, unexpandable, wanted
from guilder.shapes.facts import Facts


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("payment_intent", "customer"),
        ("payment_intent", "latest_charge.balance_transaction.source"),
        ("payment_intent", "customer.invoice_settings.default_payment_method"),
        ("payment_intent", "review"),
        ("charge", "refunds"),
        ("balance_transaction", "source.charge"),
    ],
)
def test_expandable_paths_are_accepted(kind: str, path: str) -> None:
    """Through several objects, nested fields, ids of several kinds, and fields that are always null here."""
    assert unexpandable(kind, path) is None


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("payment_intent", "amount"),
        ("payment_intent", "customer.name"),
        ("payment_intent", ""),
        ("payment_intent", "latest_charge."),
        ("payment_intent", ".customer"),
        ("customer", "invoice_settings"),
        ("balance", "available"),
        ("charge", "payment_intent.latest_charge.payment_intent.latest_charge.payment_intent"),
        ("refund", "charge.payment_intent.customer.invoice_settings.default_payment_method"),
    ],
)
def test_other_paths_are_refused(kind: str, path: str) -> None:
    """What holds no id, half of a nested field, and what is deeper than four names."""
    assert unexpandable(kind, path) is not None


def test_what_must_be_loaded_comes_out_round_by_round() -> None:
    """Each round can only name what the rounds before it have found."""
    expand = ("latest_charge.balance_transaction", "latest_charge.refunds", "payment_method")
    found: dict[str, Facts] = {}
    assert wanted([samples.PAYMENT], expand, found) == {("charge", "ch_1"), ("payment_method", "pm_1")}
    found |= {"ch_1": samples.CHARGE, "pm_1": samples.METHOD}
    assert wanted([samples.PAYMENT], expand, found) == {("balance_transaction", "txn_1"), ("charge.refunds", "refunds:ch_1")}
    found |= {"txn_1": samples.ENTRY, "re_1": samples.REFUND}
    assert wanted([samples.PAYMENT], expand, found) == set()


def test_nothing_is_loaded_without_expand_or_without_an_id() -> None:
    """Null stays null."""
    assert wanted([samples.PAYMENT], (), {}) == set()
    assert wanted([samples.BARE_PAYMENT], ("latest_charge", "review"), {}) == set()


def test_ids_of_several_kinds_are_told_by_their_prefix() -> None:
    """A balance transaction's source may be a charge or a refund."""
    assert wanted([samples.REFUND_ENTRY], ("source",), {}) == {("refund", "re_1")}
    assert wanted([samples.ENTRY], ("source",), {}) == {("charge", "ch_1")}


def test_every_target_in_the_table_is_an_object_of_the_table() -> None:
    """A typing slip here would answer null for ever."""
    targets = {target for fields in EXPANDABLE.values() for target in fields.values()}
    assert targets - {NEVER, "*"} <= set(EXPANDABLE)


def test_paths_become_a_tree() -> None:
    """Shared beginnings are shared branches."""
    assert tree_of(("a.b", "a.c", "d")) == {"a": {"b": {}, "c": {}}, "d": {}}
