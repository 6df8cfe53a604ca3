"""previous_attributes: what an *.updated event says of the values before.

Computed from the two facts without personal data: a name or an address that changed is not repeated in the clear inside an
event, where no erasure would find it.
"""

from typing import Any

from guilder.shapes.facts import Facts
from guilder.shapes.render import encode_json, shown


def previous_attributes(before: Facts, after: Facts) -> bytes:
    """The JSON of the members that changed, with their values before; null for a member that is new."""
    return encode_json(_changed(shown(before, {}), shown(after, {})))


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Objects member by member, as Stripe writes them; anything else as a whole."""
    changed: dict[str, Any] = {}
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        changed[name] = _changed(old, new) if isinstance(old, dict) and isinstance(new, dict) else old
    return changed
