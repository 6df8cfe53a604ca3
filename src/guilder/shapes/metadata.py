"""Metadata: how many keys there may be, and what becomes of those that are there when others are sent. Pure."""

from typing import Final

from msgspec import UNSET, UnsetType

from guilder.core.errors import Refusal
from guilder.shapes.facts import Metadata

# Stripe's limit; each key and value is checked where requests are read.
METADATA_KEYS_MAX: Final = 50

MetadataChange = dict[str, str | None] | UnsetType | None
"""What a request says: named keys are replaced, None or an empty text deletes one, None as a whole clears all, UNSET leaves all."""


def merged(before: Metadata, change: MetadataChange) -> Metadata:
    """Metadata after a request. Raises Refusal when there would be too many keys."""
    if change is UNSET:
        return before
    if change is None:
        return ()
    after = {**dict(before), **change}
    kept = tuple((key, value) for key, value in after.items() if value)
    check_count(len(kept))
    return kept


def check_count(count: int) -> None:
    """Refuse more keys than there may be."""
    if count > METADATA_KEYS_MAX:
        raise Refusal(f"Metadata can have at most {METADATA_KEYS_MAX} keys; this would make it {count}.", param="metadata")
