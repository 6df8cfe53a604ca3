"""Bodies and queries, read into one tree: dicts, lists and text, None for the empty text that unsets a parameter.

Forms carry nesting in brackets: `a[b]=c`, `a[]=x`, `a[0]=x`, `a[0][b]=c`, encoded or not. JSON bodies become the same
tree, but keep their numbers and booleans, which are then asked for strictly; `as_texts` is the form that both share.
Everything has a limit, and whoever passes one is told by the parameter's name.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from guilder.core.errors import Refusal
from guilder.security import mask_text

# Deeper than any parameter we have: `transfers[0][metadata][key]` has four.
DEPTH_MAX: Final = 6
# A parameter's whole name; metadata keys have 40 characters, the longest path to one about 60.
NAME_CHARACTERS_MAX: Final = 200
# Parameters in one request; a confirm with everything has about 60, metadata adds at most 50.
COUNT_MAX: Final = 500
# Digits of an index in brackets: the longest list that any route takes has 8,189 members.
INDEX_DIGITS_MAX: Final = 4
# What a message shows of a name that the client made up.
SHOWN_CHARACTERS_MAX: Final = 100

# Their members' names are the merchant's own, so numbers among them are names and no indices.
FREE_NAMES: Final = frozenset({"metadata"})

# As many digits as a card number has, with or without blanks and hyphens.
_DIGITS: Final = re.compile(r"[0-9][0-9 -]{10,}[0-9]")

Tree = dict[str, Any]
"""Parameter -> text (in JSON also number or boolean), None (unset), list or Tree."""


class _Members(dict[str, Any]):
    """A list in the making: index -> member."""


def malformed(message: str, param: str | None = None) -> Refusal:
    """The refusal of what cannot be read at all."""
    return Refusal(message, param=None if param is None else shown(param))


def shown(text: str) -> str:
    """A client's own text as far as a message or `param` repeats it: short, and without a card number that went astray."""
    short = text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}..."
    return mask_text(_DIGITS.sub("***", short))


def parse_form(body: bytes | str, count_max: int = COUNT_MAX) -> Tree:
    """Read `application/x-www-form-urlencoded` text, or a query string.

    Raises:
        Refusal: 400 naming the parameter that is malformed, given twice, too deep, too long, or holds NUL or broken UTF-8.
    """
    text = body if isinstance(body, str) else _decoded(body)
    root: Tree = {}
    if not text:
        return root
    if text.count("&") >= count_max:
        raise malformed(f"Too many parameters: at most {count_max} are accepted in one request.")
    nested = False
    for pair in text.split("&"):
        raw_name, _, raw_value = pair.partition("=")
        name = raw_name.replace("%5B", "[").replace("%5D", "]")
        if "%" in name or "+" in name:
            name = _plain(raw_name, raw_name)
        if not name:
            if raw_value:
                raise malformed("A parameter without a name was received.")
            continue
        value = _plain(raw_value, name) if "%" in raw_value or "+" in raw_value else raw_value
        _check(name, value)
        if "[" in name or "]" in name:
            nested = True
            _place(root, name, value or None)
        elif name in root:
            raise _twice(name)
        else:
            root[name] = value or None
    return _finished(root) if nested else root


def _decoded(body: bytes) -> str:
    """The body as text; names the parameter that is not UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        for pair in body.split(b"&"):
            name, _, _ = pair.partition(b"=")
            try:
                pair.decode()
            except UnicodeDecodeError:
                raise _not_utf8(name.decode(errors="replace")) from None
        raise


def _plain(text: str, name: str) -> str:
    """Undo percent-encoding; what it hides must be UTF-8, which lone surrogates are not."""
    try:
        return unquote(text.replace("+", " "), errors="strict")
    except UnicodeDecodeError:
        raise _not_utf8(unquote(name, errors="replace")) from None


def _not_utf8(name: str) -> Refusal:
    return malformed(f"Invalid string: '{shown(name)}' is not valid UTF-8.", name)


def _check(name: str, value: str) -> None:
    """Refuse what PostgreSQL cannot store and what no name is."""
    if "\0" in value or "\0" in name:
        clean = name.replace("\0", "")
        raise malformed(f"Invalid string: '{shown(clean)}' contains a NUL character.", clean)
    if len(name) > NAME_CHARACTERS_MAX:
        raise malformed(f"A parameter's name has at most {NAME_CHARACTERS_MAX} characters: '{shown(name)}'.", name)


def _twice(name: str) -> Refusal:
    return malformed(f"The parameter '{shown(name)}' was given more than once, or both as a value and as an object.", name)


def _steps(name: str) -> list[str]:
    """`a[b][]` as ["a", "b", ""]."""
    head, bracket, rest = name.partition("[")
    steps = [head, *rest[:-1].split("][")]
    if not head or not bracket or not rest.endswith("]") or any("[" in step or "]" in step for step in steps):
        raise malformed(f"Malformed parameter name: '{shown(name)}'. Nested parameters are written as parent[child].", name)
    if len(steps) > DEPTH_MAX:
        raise _too_deep(name)
    return steps


def _too_deep(name: str) -> Refusal:
    return malformed(f"Parameters nest at most {DEPTH_MAX} deep: '{shown(name)}'.", name)


def _place(root: Tree, name: str, value: str | None) -> None:
    """Put one bracketed parameter where it belongs."""
    steps = _steps(name)
    node: dict[str, Any] = root
    for depth, step in enumerate(steps[:-1]):
        kind = _Members if _is_index(steps[depth + 1]) and step not in FREE_NAMES else dict
        child = node.setdefault(_key(node, steps[depth:]), kind())
        if type(child) is not kind:
            raise _twice(name)
        node = child
    key = _key(node, steps[-1:])
    if key in node:
        raise _twice(name)
    node[key] = value


def _is_index(step: str) -> bool:
    return step == "" or (len(step) <= INDEX_DIGITS_MAX and step.isascii() and step.isdigit())


def _key(node: dict[str, Any], steps: list[str]) -> str:
    """The key of the first step in this node. An empty one appends; `a[][b]=` goes to the last member until that has its b."""
    if not isinstance(node, _Members):
        return steps[0]
    if steps[0] != "":
        return str(int(steps[0]))
    last = str(len(node) - 1)
    member: Any = node.get(last)
    for step in steps[1:]:
        if not isinstance(member, dict):
            break
        if step not in member:
            return last
        member = member[step]
    return str(len(node))


def _finished(value: Any) -> Any:
    """The tree with real lists, members in the order of their indices."""
    if isinstance(value, _Members):
        return [_finished(value[key]) for key in sorted(value, key=int)]
    if isinstance(value, dict):
        return {key: _finished(member) if isinstance(member, dict) else member for key, member in value.items()}
    return value


def parse_json(body: bytes) -> Tree:
    """Read a JSON object into the tree that a form gives: null and "" unset.

    Raises:
        Refusal: 400 when it is no JSON object, nests too deep, names a parameter twice, or a text in it holds NUL or a lone surrogate.
    """
    try:
        value = msgspec.json.decode(body) if body.strip() else {}
        _refuse_twice(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        _name_surrogate(body)
        raise malformed("Invalid JSON: the body must be one JSON object in UTF-8.") from None
    if not isinstance(value, dict):
        raise malformed("Invalid JSON: the body must be a JSON object.")
    return dict(_leaves(value, "", 1))


class _Twice(str):
    """Stands in place of an object that names a member twice, and is that name."""

    __slots__ = ()


def _refuse_twice(body: bytes) -> None:
    """Refuse a parameter that stands twice in one object: the fast parser silently takes the last one. Reads a body that is sound."""
    if not body.strip():
        return
    value = json.loads(body, object_pairs_hook=_members)
    name = _first_twice(value, "")
    if name is not None:
        raise _twice(name)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Twice:
    members: dict[str, Any] = {}
    for name, member in pairs:
        if name in members:
            return _Twice(name)
        members[name] = member
    return members


def _first_twice(value: Any, name: str) -> str | None:
    """The whole name of the first parameter that stands twice."""
    if isinstance(value, _Twice):
        return _path(name, value)
    nested = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_first_twice(member, _path(name, key)) for key, member in nested if isinstance(member, dict | list | _Twice))
    return next((one for one in found if one is not None), None)


def _name_surrogate(body: bytes) -> None:
    """Name the text that holds half of a character: the fast parser only says that it cannot read the body."""
    try:
        texts = _texts(json.loads(body), "")
        for name, text in texts:
            try:
                text.encode()
            except UnicodeEncodeError:
                clean = name.encode(errors="replace").decode()
                raise malformed(f"Invalid string: '{shown(clean)}' contains a lone surrogate.", clean) from None
    except (ValueError, RecursionError):
        return


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, names included, with the parameter it belongs to."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _texts(member, f"{name}[{index}]")
    elif isinstance(value, dict):
        for key, member in value.items():
            path = f"{name}[{key}]" if name else key
            yield path, key
            yield from _texts(member, path)


def _leaves(value: Any, name: str, depth: int) -> Any:
    """The object or list with its texts checked and its empty ones unset. Names are put together only where one is needed."""
    if depth > DEPTH_MAX:
        raise _too_deep(name)
    if isinstance(value, list):
        return [_leaf(member, name, index, depth) for index, member in enumerate(value)]
    for key in value:
        if len(key) > NAME_CHARACTERS_MAX or "\0" in key:
            _check(_path(name, key), "")
    return {key: _leaf(member, name, key, depth) for key, member in value.items()}


def _leaf(member: Any, name: str, key: str | int, depth: int) -> Any:
    if isinstance(member, str):
        if "\0" in member:
            _check(_path(name, key), member)
        return member or None
    if isinstance(member, dict | list):
        return _leaves(member, _path(name, key), depth + 1)
    return member


def _path(name: str, key: str | int) -> str:
    return f"{name}[{key}]" if name else str(key)


def as_texts(value: Any) -> Any:
    """The tree with numbers and booleans as the texts that a form would hold, so that both encodings can be compared."""
    if isinstance(value, dict):
        return {key: as_texts(member) for key, member in value.items()}
    if isinstance(value, list):
        return [as_texts(member) for member in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
