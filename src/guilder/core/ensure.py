"""Invariants: what must hold whatever a user sends. Never used for user input."""


from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class InvariantBroken(Exception):
    """Something that cannot happen has happened: the transaction rolls back and somebody is called."""


def ensure(condition: object, message: str, **facts: object) -> None:
    """Raise InvariantBroken unless the condition holds; works under `python -O`, as `assert` does not."""
    if not condition:
        raise _broken(message, facts)


def present(value: T | None, message: str, **facts: object) -> T:
    """The value, which by an invariant is not None; raises InvariantBroken when it is."""
    if value is None:
        raise _broken(message, facts)
    return value


def _broken(message: str, facts: Mapping[str, object]) -> InvariantBroken:
    detail = ", ".join(f"{name}={value!r}" for name, value in facts.items())
    return InvariantBroken(f"{message} ({detail})" if detail else message)
