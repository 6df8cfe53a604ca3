"""From a tree of texts to a typed parameter struct, and from msgspec's complaint to Stripe's.

Status 400, the code, the parameter at fault, and a message that says what would be right:

    parameter_unknown            not one of ours, or one that we do not support
    parameter_missing            required and not there
    parameter_invalid_empty      "" where a value cannot be unset
    parameter_invalid_integer    not a whole number in plain digits, or out of its bounds
    (no code)                    text too long, not one of the listed values, an object where text belongs, ...
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, inspect

from guilder.api.forms import Tree, shown
from guilder.core.errors import Refusal
from guilder.security import Pan, Secret
from guilder.shapes.metadata import check_count

# Stripe's limits on metadata, beside that on the number of keys.
METADATA_KEY_CHARACTERS_MAX: Final = 40
METADATA_VALUE_CHARACTERS_MAX: Final = 500

# No id of ours or of Stripe's is longer.
ID_CHARACTERS_MAX: Final = 255
# Stripe's limit for free text.
TEXT_CHARACTERS_MAX: Final = 5_000
# A card number with blanks has 23 characters.
SECRET_CHARACTERS_MAX: Final = 64
# The last second of the year 9999: instants past it do not fit a calendar.
EPOCH_SECONDS_MAX: Final = 253_402_300_799

Id = Annotated[str, Meta(max_length=ID_CHARACTERS_MAX)]
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
ShortText = Annotated[str, Meta(max_length=500)]
EpochSeconds = Annotated[int, Meta(ge=0, le=EPOCH_SECONDS_MAX)]
Ignored = Any
"""A parameter that clients send by themselves and that has no effect here; nothing in it touches money."""
Numeral = int | Annotated[str, Meta(max_length=20)]
"""A whole number that clients also write with leading zeros, as in exp_month=05; read it with int()."""
Metadata = dict[str, str | None] | None | UnsetType
"""A value of null (an empty text) deletes the key; null as a whole clears all."""

# What to do in place of parameters that many clients still know.
HINTS: Final[Mapping[str, str]] = {
    "price": "Stored prices are not supported; say the price itself, as price_data.",
    "source": "Sources are not supported; make a PaymentMethod, and name it as payment_method.",
    "default_source": "Sources are not supported; use invoice_settings[default_payment_method].",
}

_INTEGER: Final = re.compile(r"-?[0-9]+")
_PLAIN: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_AT: Final = re.compile(r"^(?P<complaint>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")

T = TypeVar("T", bound="Params")


class Params(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every route takes."""

    expand: Annotated[tuple[ShortText, ...], Meta(max_length=20)] = ()


class Created(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A range of `created`, in epoch seconds."""

    gt: EpochSeconds | UnsetType = UNSET
    gte: EpochSeconds | UnsetType = UNSET
    lt: EpochSeconds | UnsetType = UNSET
    lte: EpochSeconds | UnsetType = UNSET


class PageParams(Params, frozen=True, kw_only=True):
    """What every list takes. The cursors are ids of objects; one of the two at most."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    starting_after: Id | None = None
    ending_before: Id | None = None


class ListParams(PageParams, frozen=True, kw_only=True):
    """A list that can be narrowed to a time."""

    created: EpochSeconds | Created | UnsetType = UNSET


def read(tree: Tree, kind: type[T], *, strict: bool = False) -> T:
    """The tree as a struct of this kind. Raises Refusal (400) that names the first parameter at fault.

    Args:
        strict: the tree comes from JSON, where a number is a number; in a form everything is text.
    """
    try:
        value = msgspec.convert(tree, kind, strict=strict, dec_hook=_secret)
    except msgspec.ValidationError as error:
        _explain(str(error), tree, kind)
    _check_integers(tree, _integers(kind, strict=strict), "")
    metadata = getattr(value, "metadata", UNSET)
    if metadata is not UNSET and metadata is not None:
        check_metadata(metadata)
    return value


def _secret(kind: type, value: object) -> object:
    """Card numbers and CVCs become types that do not print themselves as soon as they are read."""
    if isinstance(value, str) and len(value) <= SECRET_CHARACTERS_MAX and kind in (Pan, Secret):
        return kind(value)
    raise ValueError("Expected `str` of length <= 64" if isinstance(value, str) else "Expected `str`")


def check_metadata(metadata: Mapping[str, str | None]) -> None:
    """Stripe's rules for metadata, on what one request sends."""
    check_count(len(metadata))
    for key, value in metadata.items():
        if not key or "[" in key or "]" in key:
            raise Refusal("Metadata keys must not be empty and must not contain square brackets.", param="metadata")
        if len(key) > METADATA_KEY_CHARACTERS_MAX:
            limit = METADATA_KEY_CHARACTERS_MAX
            raise Refusal(f"Metadata keys can be at most {limit} characters long: '{shown(key)}'.", param="metadata")
        if value is not None and len(value) > METADATA_VALUE_CHARACTERS_MAX:
            limit = METADATA_VALUE_CHARACTERS_MAX
            raise Refusal(f"Metadata values can be at most {limit} characters long.", param=shown(f"metadata[{key}]"))


# --- whole numbers --------------------------------------------------------------------------------------------------

Plan = Mapping[str, Any]
"""Field -> None for a whole number, or the plan of the objects under it. msgspec also reads 1.0 and 1e3 as whole numbers."""


@cache
def _integers(kind: type[Struct], *, strict: bool) -> Plan:
    """Where this struct holds whole numbers that msgspec has not looked at closely: in JSON only those that may be text."""
    return _plan(inspect.type_info(kind), strict=strict) or {}


def _plan(info: inspect.Type, *, strict: bool) -> Any:
    """None for a number, a plan for an object or a list of objects, False for what holds no number."""
    match info:
        case inspect.IntType():
            return False if strict else None
        case inspect.StructType():
            members = {field.encode_name: _plan(field.type, strict=strict) for field in info.fields}
            return {name: plan for name, plan in members.items() if plan is not False} or False
        case inspect.VarTupleType():
            return _plan(info.item_type, strict=strict)
        case inspect.UnionType():
            may_be_text = any(isinstance(one, inspect.StrType) for one in info.types)
            plans = [plan for one in info.types if (plan := _plan(one, strict=strict and not may_be_text)) is not False]
            return next((plan for plan in plans if plan is not None), None) if plans else False
        case _:
            return False


def _check_integers(tree: Tree, plan: Plan, path: str) -> None:
    for name, below in plan.items():
        value = tree.get(name)
        if value is None:
            continue
        where = f"{path}[{name}]" if path else name
        for index, one in enumerate(value) if isinstance(value, list) else ((None, value),):
            at = where if index is None else f"{where}[{index}]"
            if isinstance(one, float) or (isinstance(one, str) and not _INTEGER.fullmatch(one)):
                _bad_integer(one, at)
            elif isinstance(one, dict) and below is not None:
                _check_integers(one, below, at)


def _bad_integer(value: object, param: str, hint: str = "") -> NoReturn:
    if isinstance(value, dict | list):
        message = f"Invalid integer: '{param}' takes a number, not {_kind(value)}."
        raise Refusal(message, code="parameter_invalid_integer", param=param)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not hint:
        # A form would have been read: this is a text in JSON.
        raise Refusal(
            f"Invalid integer: {_text(value)} is a text; in JSON a number is written without quotes.",
            code="parameter_invalid_integer",
            param=param,
        )
    raise Refusal(
        f"Invalid integer: {_text(value)}; write a whole number in plain digits, without leading zeros{hint}.",
        code="parameter_invalid_integer",
        param=param,
    )


# --- explaining -----------------------------------------------------------------------------------------------------


def _explain(message: str, tree: Tree, kind: type[Struct]) -> NoReturn:
    """Raise the refusal that says the same in Stripe's words."""
    match = _AT.match(message)
    complaint, path = (match["complaint"], match["path"] or "") if match else (message, "")
    steps = [name or index for name, index in _STEP.findall(path)]
    value, info, param = _find(tree, inspect.type_info(kind), steps)
    if complaint.startswith("Object contains unknown field"):
        _unknown(value, info, param)
    if complaint.startswith("Object missing required field"):
        name = complaint.split("`")[1]
        missing = f"{param}[{name}]" if param else name
        raise Refusal(f"Missing required param: {missing}.", code="parameter_missing", param=missing)
    if value is None:
        raise Refusal(
            f"You passed an empty string for '{param}'. An empty value unsets a parameter, but '{param}' cannot be unset. "
            "Remove it from your request or give it a value.",
            code="parameter_invalid_empty",
            param=param,
        )
    raise _invalid(complaint, value, info, param)


def _find(tree: Any, info: inspect.Type, steps: list[str]) -> tuple[Any, inspect.Type, str]:
    """The value and the type at a path, and the path as `param` writes it."""
    value, param = tree, ""
    for step in steps:
        if step == "...":
            # A member of metadata: msgspec does not say which. The one that is neither text nor unset is at fault.
            step = next((name for name, one in value.items() if not isinstance(one, str | None)), "")
        value = value[int(step)] if isinstance(value, list) else value.get(step)
        info = _below(info, step)
        param = f"{param}[{step}]" if param else step
    return value, info, param


def _below(info: inspect.Type, step: str) -> inspect.Type:
    """The type one step down; what a union holds under that name."""
    match info:
        case inspect.StructType():
            return next((field.type for field in info.fields if field.encode_name == step), inspect.AnyType())
        case inspect.VarTupleType():
            return info.item_type
        case inspect.DictType():
            return info.value_type
        case inspect.UnionType():
            for one in info.types:
                found = _below(one, step)
                if not isinstance(found, inspect.AnyType):
                    return found
    return inspect.AnyType()


def _unknown(value: Any, info: inspect.Type, param: str) -> NoReturn:
    """Name every member that the struct does not know."""
    types = info.types if isinstance(info, inspect.UnionType) else (info,)
    known = {field.encode_name for one in types if isinstance(one, inspect.StructType) for field in one.fields}
    names = [f"{param}[{name}]" if param else name for name in value if name not in known]
    plural = "s" if len(names) > 1 else ""
    hint = next((f". {HINTS[name]}" for name in value if name in HINTS and name not in known), "")
    raise Refusal(
        f"Received unknown parameter{plural}: {', '.join(shown(name) for name in names[:10])}{hint}",
        code="parameter_unknown",
        param=shown(names[0]),
    )


def _invalid(complaint: str, value: Any, info: inspect.Type, param: str) -> Refusal:
    """What is wrong with a value that is there."""
    options = _options(info)
    if options and isinstance(value, str):
        listed = ", ".join(options[:-1]) + (f" or {options[-1]}" if len(options) > 1 else options[-1])
        return Refusal(f"Invalid {param}: must be {'one of ' if len(options) > 1 else ''}{listed}", param=param)
    expected = re.search(r"Expected `([^`]*)`(?: of length)?(.*)", complaint)
    wanted, rest = (expected[1], expected[2].split(",")[0].strip()) if expected else (_meant(complaint, info), "")
    if "int" in wanted.split(" | "):
        _bad_integer(value, param, f" that is {_bound(rest)}" if rest else "")
    if wanted.startswith("bool"):
        quotes = ", in JSON without quotes" if value in ("true", "false") else ""
        message = f"Invalid boolean: {_text(value)}; must be true or false{quotes}."
    elif wanted.startswith("str") and not isinstance(value, str):
        message = f"Invalid string: '{param}' takes one text, not {_kind(value)}."
    elif wanted.startswith("str") and rest.startswith("matching"):
        message = f"Invalid string: '{param}' has characters that cannot stand there."
    elif wanted.startswith("str"):
        message = f"Invalid string: '{param}' must have {_bound(rest)} characters."
    elif wanted.startswith("array") and isinstance(value, list):
        message = f"Invalid array: '{param}' takes {_bound(rest)} members."
    elif wanted.startswith("array"):
        message = f"Invalid array: '{param}' takes a list, written {param}[0]=... in a form."
    else:
        message = f"Invalid object: '{param}' takes an object, written {param}[name]=... in a form."
    return Refusal(message, param=param)


def _meant(complaint: str, info: inspect.Type) -> str:
    """What was expected where msgspec took a text such as 1e400 for a number, which does not fit, and says no more than that."""
    if complaint != "Number out of range":
        return ""
    types = info.types if isinstance(info, inspect.UnionType) else (info,)
    return "bool" if any(isinstance(one, inspect.BoolType) for one in types) else "int"


def _bound(rest: str) -> str:
    """`<= 5` in words."""
    return rest.replace("<=", "at most").replace(">=", "at least")


def _options(info: inspect.Type) -> list[str]:
    """The values of an enumeration, also of one that may be unset."""
    types = info.types if isinstance(info, inspect.UnionType) else (info,)
    return [str(value) for one in types if isinstance(one, inspect.LiteralType) for value in one.values]


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "a number or a boolean"


def _text(value: object) -> str:
    """A client's value as a message repeats it."""
    return shown(str(value))
