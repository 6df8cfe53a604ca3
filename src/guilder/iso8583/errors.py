"""Errors of this border: one.

    FrameError      bytes that are not a message of our dialect, or a message that cannot be written in it

Its reader is told where the message broke, so that a person can find out who wrote it.
"""

from guilder.core.errors import GuilderError


class FrameError(GuilderError):
    """Not a message of our dialect. The text names the field and the reason, never a value: values hold card data."""
