"""Routes are found by method and path, and nothing else is."""

import pytest

from guilder.api.http import Reply
from guilder.api.params import Params
from guilder.api.registry import Registry, Route
from guilder.core.ensure import InvariantBroken
from guilder.core.errors import Refusal


async def handle(_call: object, _params: object) -> Reply:
    return Reply(body=b"{}")


def route(method: str, path: str) -> Route:
    return Route(method=method, path=path, params=Params, handle=handle, answers="thing", summary="")


REGISTRY = Registry(
    [route("GET", "/v1/things"), route("GET", "/v1/things/{thing}"), route("POST", "/v1/things/{thing}/parts/{part}/go")]
)


def test_ids_in_the_path_are_handed_over_in_order() -> None:
    """What stands in braces."""
    assert REGISTRY.find("GET", "/v1/things")[1] == ()
    assert REGISTRY.find("GET", "/v1/things/t_1")[1] == ("t_1",)
    assert REGISTRY.find("POST", "/v1/things/t_1/parts/p_2/go")[1] == ("t_1", "p_2")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/things"), ("GET", "/v1/things/"), ("GET", "/"), ("GET", "/v1/things/t/x"), ("POST", "/v1/things//parts/p/go"),
     ("GET", "/v1/things/" + "x" * 700), ("PUT", "/v1/things/t_1")],
)  # fmt: skip
def test_other_addresses_are_unrecognized(method: str, path: str) -> None:
    """404 in Stripe's words, with the method and the path."""
    with pytest.raises(Refusal) as refused:
        REGISTRY.find(method, path)
    assert refused.value.status == 404
    assert refused.value.facts.message.startswith(f"Unrecognized request URL ({method}: ")


def test_a_route_stands_once() -> None:
    """Two handlers for one address would be decided by their order."""
    for path in ("/v1/a", "/v1/a/{b}"):
        with pytest.raises(InvariantBroken):
            Registry([route("GET", path)], [route("GET", path.replace("{b}", "{c}"))])
