"""expand: which ids of which object can be replaced by the object itself, and which objects an `expand` list asks for.

Pure: what must be loaded comes out as (object, id) pairs, and whoever owns the tables loads it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from guilder.shapes.facts import Facts, RefundFacts

# Stripe's own limit: `a.b.c.d`, not counting a list's `data.`.
DEPTH_MAX: Final = 4
# More paths than any object has expandable fields, so that one request cannot ask for a page full of joins.
PATHS_MAX: Final = 20

Tree = Mapping[str, "Tree"]
"""{"latest_charge": {"balance_transaction": {}}}"""

NEVER: Final = ""
"""The target of a field that can be expanded at Stripe and is always null here: accepted, without effect."""

BY_PREFIX: Final = "*"
"""The target of a field that may hold ids of several kinds; the id's prefix says which."""

LISTS: Final = frozenset({("charge", "refunds")})
"""Fields that are lists of objects which point back, and are shown only when asked for."""

OWN_LISTS: Final[Mapping[str, tuple[str, ...]]] = {"checkout.session": ("line_items",)}
"""Fields that the object holds itself, and shows only when asked for."""

EXPANDABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "payment_intent": {
        "customer": "customer",
        "latest_charge": "charge",
        "payment_method": "payment_method",
        "application": NEVER,
        "on_behalf_of": NEVER,
        "review": NEVER,
        "source": NEVER,
    },
    "charge": {
        "balance_transaction": "balance_transaction",
        "customer": "customer",
        "payment_intent": "payment_intent",
        "refunds": "refund",
        "application": NEVER,
        "application_fee": NEVER,
        "dispute": NEVER,
        "failure_balance_transaction": NEVER,
        "on_behalf_of": NEVER,
        "review": NEVER,
        "source_transfer": NEVER,
        "transfer": NEVER,
    },
    "refund": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
        "source_transfer_reversal": NEVER,
        "transfer_reversal": NEVER,
    },
    "payment_method": {"customer": "customer"},
    "customer": {
        "invoice_settings.default_payment_method": "payment_method",
        "cash_balance": NEVER,
        "default_source": NEVER,
        "discount": NEVER,
        "sources": NEVER,
        "subscriptions": NEVER,
        "tax": NEVER,
        "tax_ids": NEVER,
        "test_clock": NEVER,
    },
    "balance_transaction": {"source": BY_PREFIX},
    "balance": {},
    "terminal.location": {},
    "terminal.reader": {},
    "event": {},
    "webhook_endpoint": {},
    "checkout.session": {
        "customer": "customer",
        "line_items": NEVER,
        "payment_intent": "payment_intent",
        "invoice": NEVER,
        "payment_link": NEVER,
        "setup_intent": NEVER,
        "subscription": NEVER,
    },
}
"""Object -> field -> what stands there."""

PREFIXES: Final[Mapping[str, str]] = {"ch": "charge", "re": "refund", "pi": "payment_intent"}
_ANY_SOURCE: Final = ("charge", "refund")


def tree_of(paths: Iterable[str]) -> dict[str, Any]:
    """The paths of an `expand` list as a tree."""
    root: dict[str, Any] = {}
    for path in paths:
        node = root
        for step in path.split("."):
            node = node.setdefault(step, {})
    return root


def unexpandable(root: str, path: str) -> str | None:
    """The part of the path that cannot be expanded on this object, or None when all of it can."""
    steps = path.split(".")
    if len(steps) > DEPTH_MAX:
        return path
    kinds: Sequence[str] = (root,)
    taken: list[str] = []
    for step in steps:
        taken.append(step)
        name = ".".join(taken)
        found = [EXPANDABLE[kind][name] for kind in kinds if name in EXPANDABLE.get(kind, {})]
        if found:
            kinds = _ANY_SOURCE if found[0] == BY_PREFIX else [kind for kind in found if kind != NEVER]
            taken = []
            if not kinds:
                return None
        elif not any(field.startswith(name + ".") for kind in kinds for field in EXPANDABLE.get(kind, {})):
            return path
    return path if taken else None


def kind_of(facts: Facts) -> str:
    """Stripe's name of the object."""
    return str(facts.__struct_config__.tag)


def target(kind: str, field: str, value: str) -> str:
    """The kind of object that this id in this field names; NEVER when nothing we have."""
    name = EXPANDABLE.get(kind, {}).get(field, NEVER)
    return PREFIXES.get(value.partition("_")[0], NEVER) if name == BY_PREFIX else name


def _ids(facts: Facts) -> dict[str, str | None]:
    """The expandable fields of an object and the ids that stand there; those that are always null are left out."""
    own = {"refunds": "id", "invoice_settings.default_payment_method": "default_payment_method"}
    return {
        field: getattr(facts, own.get(field, field))
        for field, target_ in EXPANDABLE.get(kind_of(facts), {}).items()
        if target_ != NEVER
    }


def subtree(tree: Tree, field: str) -> Tree | None:
    """The branch under a field whose name may hold a dot; None when the field is not asked for."""
    node: Tree = tree
    for step in field.split("."):
        if step not in node:
            return None
        node = node[step]
    return node


def wanted(roots: Iterable[Facts], expand: Sequence[str], included: Mapping[str, Facts]) -> set[tuple[str, str]]:
    """What must still be loaded before these objects can be shown expanded: (object, id) pairs.

    Call again with what was found, until nothing is wanted or nothing new is found: at most DEPTH_MAX rounds.
    A charge's refunds are asked for as ("charge.refunds", "refunds:" + charge id), until some of them are there.
    """
    missing: set[tuple[str, str]] = set()
    tree: Tree = tree_of(expand)
    waiting: list[tuple[Facts, Tree]] = [(facts, tree) for facts in roots] if expand else []
    while waiting:
        facts, tree = waiting.pop()
        kind = kind_of(facts)
        for field, id_ in _ids(facts).items():
            branch = subtree(tree, field)
            if branch is None or id_ is None:
                continue
            if (kind, field) in LISTS:
                members = [one for one in included.values() if isinstance(one, RefundFacts) and one.charge == id_]
                waiting.extend((one, branch) for one in members)
                if not members:
                    missing.add((f"{kind}.{field}", f"{field}:{id_}"))
            elif id_ in included:
                waiting.append((included[id_], branch))
            elif target(kind, field, id_) != NEVER:
                missing.add((target(kind, field, id_), id_))
    return missing
