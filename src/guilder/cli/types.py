"""Event types as flags name them."""

from collections.abc import Sequence

import typer


def chosen_types(patterns: Sequence[str]) -> Sequence[str]:
    """The patterns, of which each can let something through. Says on standard error of which of them nothing is sent yet.

    Raises Refusal that names those which fit no type, and what may be meant.
    """
    from guilder.webhooks.types import check_patterns, unsent_of

    check_patterns(patterns)
    unsent = unsent_of(patterns)
    if unsent:
        typer.echo(f"guilder: nothing of {', '.join(unsent)} is sent yet", err=True)
    return patterns
