"""Length prefixes: two or three digits before a variable value. Tables, because formatting a number costs three times more."""

from collections.abc import Mapping
from typing import Final

# The text of a length by the prefix's width and the length.
TEXTS: Final[Mapping[int, tuple[str, ...]]] = {
    2: tuple(f"{length:02d}" for length in range(100)),
    3: tuple(f"{length:03d}" for length in range(1000)),
}
# And back, for both widths.
VALUES: Final[Mapping[str, int]] = {text: length for texts in TEXTS.values() for length, text in enumerate(texts)}
