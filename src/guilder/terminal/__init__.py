"""The till: readers, the places where they stand, and what a reader is doing.

Owns:       tables terminal_location, terminal_reader.
Announces:  nothing by itself: the caller announces terminal.reader.action_succeeded and action_failed in its transaction.
May import: shapes, db, core.
Start with: terminal.py.
"""

from guilder.terminal.terminal import Terminal

__all__ = ["Terminal"]
