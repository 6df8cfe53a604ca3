"""Errors of the bank world.

    NetworkError            the root
    ├── TruthInUse          another process holds the truth file
    ├── TruthUnreadable     the truth file has a line in it that is none of ours
    ├── TruthNotDurable     the disk did not take the truth: memory and file may differ, the process must end
    └── BadRequest          a request on the control port that cannot be done; the text says what would be right

Malformed frames are `guilder.iso8583.FrameError`.
"""

from guilder.core.errors import GuilderError


class NetworkError(GuilderError):
    """The root of what the bank world raises on purpose."""


class TruthInUse(NetworkError):
    """Another process holds the truth file."""


class TruthUnreadable(NetworkError):
    """The truth file has a line in it that is none of ours. Nothing is guessed: a person has to look."""


class TruthNotDurable(NetworkError):
    """fdatasync failed. What the kernel did with the pages is unknown, so the process ends and starts from the file."""


class BadRequest(NetworkError):
    """A request on the control port that cannot be done; the text says what would be right."""
