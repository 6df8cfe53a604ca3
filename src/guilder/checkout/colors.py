"""A merchant's colour on our page: readable on every part of it, whatever colour it is. Pure (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re
from typing import Final

# Ours, for merchants that have none.
USUAL: Final = "#1f4fd8"
# Text, and what is not text, against what lies beside it.
TEXT_CONTRAST: Final = 4.5
SHAPE_CONTRAST: Final = 3.0
# So many steps lead from any colour to black or white.
STEPS: Final = 50

LIGHT_PAPER: Final = "#ffffff"
DARK_PAPER: Final = "#16181d"
_HEX: Final = re.compile(r"[0-9a-f]{6}")

Rgb = tuple[int, int, int]


def is_color(digits: str) -> bool:
    """Whether these are the six digits of a colour."""
    return _HEX.fullmatch(digits) is not None


def rgb(color: str) -> Rgb:
    """`#rrggbb` as three numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def luminance(color: Rgb) -> float:
    """Relative luminance, from 0 for black to 1 for white (WCAG 2.2)."""
    parts = [value / 255 for value in color]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1 for the same to 21 for black on white."""
    first, second = sorted((luminance(rgb(one)), luminance(rgb(other))), reverse=True)
    return (first + 0.05) / (second + 0.05)


def text_on(color: str) -> str:
    """Black or white, whichever reads better; one of the two always has a contrast above 4.5."""
    return max(("#ffffff", "#000000"), key=lambda ink: contrast(color, ink))


def readable_on(paper: str, color: str, least: float) -> str:
    """The colour itself, or as little darker or lighter as it takes to stand out from the paper."""
    target = rgb("#000000" if luminance(rgb(paper)) > 0.5 else "#ffffff")
    start = rgb(color)
    for step in range(STEPS + 1):
        mixed = _mixed(start, target, step)
        if contrast(mixed, paper) >= least:
            return mixed
    return _mixed(start, target, STEPS)


def _mixed(start: Rgb, target: Rgb, step: int) -> str:
    parts = [one + (other - one) * step // STEPS for one, other in zip(start, target, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*parts)


def stylesheet(color: str) -> bytes:
    """The page's colours for a brand, for light and dark paper."""

    def rules(paper: str) -> str:
        button = readable_on(paper, color, SHAPE_CONTRAST)
        accent = readable_on(paper, color, TEXT_CONTRAST)
        return f"--brand:{button};--on-brand:{text_on(button)};--accent:{accent}"

    dark = f"@media(prefers-color-scheme:dark){{:root{{{rules(DARK_PAPER)}}}}}"
    return f":root{{{rules(LIGHT_PAPER)}}}{dark}".encode()
