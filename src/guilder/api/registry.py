"""The one list of routes: what routes requests also writes the OpenAPI document, so the two cannot disagree."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from guilder.api.forms import COUNT_MAX
from guilder.api.http import BODY_BYTES_MAX, Reply
from guilder.api.params import Params
from guilder.core.ensure import ensure
from guilder.core.errors import Refusal

Handler = Callable[[Any, Any], Awaitable[Reply]]
"""(Call, the route's params struct) -> Reply."""

Steps = tuple[str | None, ...]
"""A path cut at its slashes; None where an id stands."""

# No path of ours is longer; an id has at most 255 characters.
PATH_CHARACTERS_MAX: Final = 600
# What stands where an id could and is none: search is an address that we do not have.
_NOT_IDS: Final = frozenset({"", "search"})


class Route(Struct, frozen=True, kw_only=True):
    """One operation.

    Args:
        path: `/v1/things/{thing}/verb`; what stands in braces is handed to the handler in order.
        answers: the `object` of the answer; for a list of them `of_list` is set.
        publishable: whether a publishable key may call it.
        claims_key: whether a POST is made safe to repeat by its stored answer; False where the objects' ids do that, and the key
            is only held against its parameters.
        own_id: the parameter by which a client may give the new object's id. A request with one needs no key: its id says
            whether it is a repeat, at no cost.
        may_lag: whether a GET may be answered from a replica, with its age in a header.
        body_max, count_max: limits of the body; only lists of transfers need more than the usual.
    """

    method: str
    path: str
    params: type[Params]
    handle: Handler
    answers: str
    summary: str
    of_list: bool = False
    publishable: bool = False
    claims_key: bool = True
    own_id: str | None = None
    may_lag: bool = False
    body_max: int = BODY_BYTES_MAX
    count_max: int = COUNT_MAX


class Registry:
    """Finds the route of a request."""

    def __init__(self, *groups: Sequence[Route]) -> None:
        self.routes: tuple[Route, ...] = tuple(route for group in groups for route in group)
        self._fixed: dict[tuple[str, str], Route] = {}
        self._by_length: dict[tuple[str, int], list[tuple[Steps, Route]]] = {}
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        if "{" not in route.path:
            ensure((route.method, route.path) not in self._fixed, "each route once", path=route.path)
            self._fixed[route.method, route.path] = route
            return
        steps = tuple(None if step.startswith("{") else step for step in route.path.split("/"))
        same = self._by_length.setdefault((route.method, len(steps)), [])
        ensure(all(steps != other for other, _ in same), "each route once", path=route.path)
        same.append((steps, route))

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """The route and the ids in the path. Raises Refusal (404, Unrecognized request URL)."""
        route = self._fixed.get((method, path))
        if route is not None:
            return route, ()
        if len(path) <= PATH_CHARACTERS_MAX and path.isprintable():
            given = path.split("/")
            for steps, candidate in self._by_length.get((method, len(given)), ()):
                pairs = tuple(zip(steps, given, strict=True))
                if all(one not in _NOT_IDS if step is None else step == one for step, one in pairs):
                    return candidate, tuple(one for step, one in pairs if step is None)
        raise unrecognized(method, path)

    def by_path(self) -> Mapping[str, Sequence[Route]]:
        """Path -> its routes, in the order in which they were registered."""
        paths: dict[str, list[Route]] = {}
        for route in self.routes:
            paths.setdefault(route.path, []).append(route)
        return paths


def unrecognized(method: str, path: str) -> Refusal:
    """The refusal of an address that does not exist."""
    shown = path if len(path) <= PATH_CHARACTERS_MAX else f"{path[:PATH_CHARACTERS_MAX]}..."
    shown = "".join(character if character.isprintable() else "?" for character in shown)
    return Refusal(
        f"Unrecognized request URL ({method}: {shown}). The addresses that exist are listed at /openapi.json.",
        status=404,
    )
