"""The page's languages: one file each, all with the same keys. A new one is a file, and its place in the table here.

Owns:       nothing.
Announces:  nothing.
May import: core.
Start with: model.py, then en.py.
"""

from collections.abc import Mapping
from typing import Final

from guilder.checkout.languages.de import GERMAN
from guilder.checkout.languages.en import ENGLISH
from guilder.checkout.languages.model import Language

LANGUAGES: Final[Mapping[str, Language]] = {one.tag: one for one in (ENGLISH, GERMAN)}
"""By their tags, in the order in which the page offers them."""
USUAL: Final = ENGLISH.tag

# More preferences than any browser sends.
PREFERENCES_MAX: Final = 20


def language(*, asked: str | None, session: str | None, accepted: str) -> str:
    """The page's language: what the buyer asked for here, else what the merchant set, else what the browser prefers."""
    for wanted in (asked, session):
        known = _known(wanted or "")
        if known is not None:
            return known
    for wanted in _preferred(accepted):
        known = _known(wanted)
        if known is not None:
            return known
    return USUAL


def _known(tag: str) -> str | None:
    primary = tag.replace("_", "-").partition("-")[0].strip().lower()
    return primary if primary in LANGUAGES else None


def _preferred(accepted: str) -> list[str]:
    """The tags of an Accept-Language header, the most wanted first (RFC 9110, section 12.5.4)."""
    weighted = []
    for position, one in enumerate(accepted.split(",")[:PREFERENCES_MAX]):
        tag, _, parameter = one.strip().partition(";")
        weight = parameter.replace(" ", "").removeprefix("q=") or "1"
        try:
            weighted.append((-float(weight), position, tag))
        except ValueError:
            continue
    return [tag for weight, _, tag in sorted(weighted) if weight < 0]
