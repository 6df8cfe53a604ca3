"""The OpenAPI 3.1 document, made from the same registry that routes, and served at /openapi.json."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from guilder import __version__
from guilder.api.registry import Registry, Route
from guilder.security import Pan, Secret

_REFERENCE: Final = "#/components/schemas/{name}"
_IN_PATH: Final = re.compile(r"{(\w+)}")
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A second request with the same key gets the first one's answer. Without one a key is made, and named.",
    "schema": {"type": "string", "maxLength": 255},
}
_ERROR: Final = {
    "description": "An error, in Stripe's shape; with RFC 9457's members beside it for `Accept: application/problem+json`.",
    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(name="error")}}},
}
_DESCRIPTION: Final = (
    "Guilder's API, in the shape of Stripe's: its official SDKs work with nothing but the base address changed. Compatible with "
    "Stripe's server API, and not affiliated with Stripe. POST takes form bodies, nested in brackets, and JSON bodies. "
    "An empty value unsets a parameter; what is not listed here is refused by name."
)


def document(registry: Registry) -> bytes:
    """The document as JSON."""
    schemas = _schemas(registry)
    paths: dict[str, dict[str, Any]] = {}
    for path, routes in registry.by_path().items():
        paths[path] = {route.method.lower(): _operation(route, schemas) for route in routes}
    text = msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Guilder", "version": __version__, "description": _DESCRIPTION},
            "servers": [{"url": "/"}],
            "security": [{"bearer": []}, {"basic": []}],
            "paths": paths,
            "components": {
                "schemas": {**schemas, **_answers(registry)},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: sk_..., or pk_... where it may."},
                    "basic": {"type": "http", "scheme": "basic", "description": "The API key as the user, no password."},
                },
            },
        }
    )
    # Where two structs have one name the schema's name begins with the module's; the package says nothing to a reader.
    return text.replace(b"guilder.api.", b"")


def _schemas(registry: Registry) -> dict[str, Any]:
    """The schemas of all parameter structs, by the names that `_name` gives them."""
    kinds = list(dict.fromkeys(route.params for route in registry.routes))
    _, components = msgspec.json.schema_components(kinds, schema_hook=_secret, ref_template=_REFERENCE)
    return dict(sorted(components.items()))


def _secret(kind: type) -> dict[str, Any]:
    """Card numbers and CVCs are text on the wire."""
    if kind in (Pan, Secret):
        return {"type": "string", "maxLength": 64}
    raise NotImplementedError


def _name(kind: type[Struct], schemas: dict[str, Any]) -> str:
    """The name under which the struct's schema stands: its own, or with its module where two have the same."""
    return kind.__name__ if kind.__name__ in schemas else f"{kind.__module__}.{kind.__name__}"


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 255}}
        for name in _IN_PATH.findall(route.path)
    ]
    name = _name(route.params, schemas)
    operation: dict[str, Any] = {"operationId": _operation_id(route), "summary": route.summary, "tags": [route.answers]}
    if route.method == "POST":
        parameters.append(_KEY)
        body = {"schema": {"$ref": _REFERENCE.format(name=name)}}
        operation["requestBody"] = {
            "required": bool(schemas[name].get("required")),
            "content": {"application/x-www-form-urlencoded": body | _encoding(schemas[name]), "application/json": body},
        }
    else:
        parameters += _query(schemas[name])
    operation["parameters"] = parameters
    answer = f"list_of_{route.answers}" if route.of_list else route.answers
    operation["responses"] = {
        "200": {
            "description": "Done.",
            "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(name=answer)}}},
        },
        "4XX": _ERROR,
        "5XX": _ERROR,
    }
    return operation


def _operation_id(route: Route) -> str:
    """`post_v1_payment_intents_confirm`: the path without its ids."""
    steps = [step for step in route.path.split("/") if step and not step.startswith("{")]
    one = "one_" if route.path.endswith("}") else ""
    return f"{route.method.lower()}_{one}{'_'.join(steps)}"


def _encoding(schema: dict[str, Any]) -> dict[str, Any]:
    """Nested parameters are written in brackets."""
    names = [name for name, one in schema.get("properties", {}).items() if _is_nested(one)]
    return {"encoding": {name: {"style": "deepObject", "explode": True} for name in names}} if names else {}


def _is_nested(schema: dict[str, Any]) -> bool:
    return "$ref" in schema or schema.get("type") in ("object", "array") or any(map(_is_nested, schema.get("anyOf", ())))


def _query(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a GET or DELETE."""
    required: Sequence[str] = schema.get("required", ())
    parameters = []
    for name, one in schema.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "required": name in required, "schema": one}
        if one.get("type") == "array":
            parameter |= {"name": f"{name}[]", "style": "form", "explode": True}
        elif _is_nested(one):
            parameter |= {"style": "deepObject", "explode": True}
        parameters.append(parameter)
    return parameters


def _answers(registry: Registry) -> dict[str, Any]:
    """What the routes answer: the members that every object has; the fields of each are Stripe's."""
    answers: dict[str, Any] = {
        "error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["type", "message"],
                    "properties": {
                        "type": {"enum": ["api_error", "card_error", "idempotency_error", "invalid_request_error"]},
                        "code": {"type": "string"},
                        "decline_code": {"type": "string"},
                        "message": {"type": "string"},
                        "param": {"type": "string"},
                    },
                }
            },
        }
    }
    for route in registry.routes:
        answers[route.answers] = {
            "type": "object",
            "required": ["object"],
            "properties": {"id": {"type": "string"}, "object": {"type": "string"}, "livemode": {"type": "boolean"}},
        }
        if route.of_list:
            answers[f"list_of_{route.answers}"] = {
                "type": "object",
                "required": ["object", "data", "has_more", "url"],
                "properties": {
                    "object": {"const": "list"},
                    "data": {"type": "array", "items": {"$ref": _REFERENCE.format(name=route.answers)}},
                    "has_more": {"type": "boolean"},
                    "url": {"type": "string"},
                },
            }
    return answers
