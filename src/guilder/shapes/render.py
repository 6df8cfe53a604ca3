"""Facts in, Stripe's JSON bytes out. The shape version that stands with the facts chooses the code that renders them.

Personal data is not in the facts: `personal_ids` says which records are needed, and they are handed in opened.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from guilder.core.errors import ErrorFacts
from guilder.shapes import version1
from guilder.shapes.expand import EXPANDABLE, LISTS, OWN_LISTS, Tree, kind_of, subtree, tree_of
from guilder.shapes.facts import SHAPE, Answer, EventFacts, Facts, PaymentIntentFacts, RefundFacts
from guilder.shapes.version1 import client, payment
from guilder.shapes.version1.personal import Personal

API_VERSION: Final = "2026-05-27.dahlia"
"""The one API version whose shape we serve; echoed in Stripe-Version, whatever the client asked for."""

# What an embedded list shows at once; Stripe shows ten and lets the client page on.
EMBEDDED_LIST_MAX: Final = 10

_BUILDERS: Final = {1: version1.BUILDERS}
_encode = msgspec.json.Encoder().encode


class EventHeader(Struct, frozen=True, kw_only=True):
    """What an event's row says beside its facts. Instants are epoch seconds."""

    id: str
    type: str
    created: int
    livemode: bool
    request_id: str | None = None
    idempotency_key: str | None = None
    pending_webhooks: int = 0


def encode_json(value: object) -> bytes:
    """Any plain value as compact JSON; what is no fact (ledger objects, the account) is rendered through this."""
    return _encode(value)


def personal_ids(objects: Iterable[Facts]) -> set[str]:
    """The personal records that rendering these objects needs."""
    ids: set[str | None] = set()
    for facts in objects:
        ids.add(getattr(facts, "personal", None))
        ids.add(getattr(facts, "billing", None))
        if isinstance(facts, PaymentIntentFacts) and facts.failed_payment_method is not None:
            ids.add(facts.failed_payment_method.billing)
    return {id_ for id_ in ids if id_ is not None}


def shown(
    facts: Facts,
    personal: Personal,
    *,
    expand: Tree | None = None,
    included: Mapping[str, Facts] | None = None,
    shape: int = SHAPE,
    client_side: bool = False,
) -> dict[str, Any]:
    """One object as a dict, with what `expand` asks for put in place from `included`.

    `client_side` is the view of a publishable key: no metadata, no fingerprint, nothing of the merchant's own.
    """
    view = _BUILDERS[shape][type(facts)](facts, personal)
    if client_side:
        view = client.redacted(view)
    for field in OWN_LISTS.get(view["object"], ()):
        if expand is None or field not in expand:
            del view[field]
    if expand:

        def show(one: Facts, branch: Tree) -> dict[str, Any]:
            return shown(one, personal, expand=branch, included=included, shape=shape, client_side=client_side)

        _expand(view, kind_of(facts), expand, included or {}, show)
    return view


Show = Callable[[Facts, Tree], dict[str, Any]]


def _expand(view: dict[str, Any], kind: str, tree: Tree, included: Mapping[str, Facts], show: Show) -> None:
    """Put in place what the tree asks for of this object."""
    for field in EXPANDABLE.get(kind, {}):
        branch = subtree(tree, field)
        if branch is None or field in OWN_LISTS.get(kind, ()):
            continue
        if (kind, field) in LISTS:
            view[field] = _embedded(view["id"], kind, field, [show(one, branch) for one in _pointing(view["id"], included)])
            continue
        *way, last = field.split(".")
        holder = view
        for step in way:
            holder = holder[step]
        if holder.get(last) in included:
            holder[last] = show(included[holder[last]], branch)


def _pointing(charge: str, included: Mapping[str, Facts]) -> list[Facts]:
    """The refunds of a charge, newest first."""
    refunds = [one for one in included.values() if isinstance(one, RefundFacts) and one.charge == charge]
    return [*sorted(refunds, key=lambda one: (one.created, one.id), reverse=True)]


def _embedded(owner: str, kind: str, field: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "object": "list",
        "data": data[:EMBEDDED_LIST_MAX],
        "has_more": len(data) > EMBEDDED_LIST_MAX,
        "url": f"/v1/{kind}s/{owner}/{field}",
    }


def render_object(
    facts: Facts,
    personal: Personal,
    *,
    expand: Sequence[str] = (),
    included: Iterable[Facts] = (),
    client_side: bool = False,
) -> bytes:
    """One object as bytes."""
    by_id = _by_id(included)
    tree = tree_of(expand) if expand else None
    return _encode(shown(facts, personal, expand=tree, included=by_id, client_side=client_side))


def render_answer(
    answer: Answer, personal: Personal, *, client_side: bool = False, problem: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of a stored answer: the same ones each time, save personal data that was erased since.

    `problem` holds the RFC 9457 members that are set beside `error` for those who asked for them.
    """
    root: dict[str, Any] | None = None
    if answer.root is not None:
        tree = tree_of(answer.expand) if answer.expand else None
        included = _by_id(answer.included) if answer.included else {}
        root = shown(answer.root, personal, expand=tree, included=included, shape=answer.shape, client_side=client_side)
    if answer.error is None:
        return _encode(root)
    return _error_bytes(answer.error, root, problem)


def render_error(error: ErrorFacts, problem: Mapping[str, Any] | None = None) -> bytes:
    """An error that carries no object."""
    return _error_bytes(error, None, problem)


def _error_bytes(error: ErrorFacts, root: dict[str, Any] | None, problem: Mapping[str, Any] | None) -> bytes:
    members = payment.error(error)
    if root is not None:
        members[root["object"]] = root
        failed = (root.get("last_payment_error") or {}).get("payment_method")
        if error.type == "card_error" and failed is not None:
            members["payment_method"] = failed
    return _encode({"error": members, **(problem or {})})


def render_list(
    objects: Sequence[Facts],
    personal: Personal,
    *,
    url: str,
    has_more: bool,
    expand: Sequence[str] = (),
    included: Iterable[Facts] = (),
) -> bytes:
    """A page of objects. `expand` is already without its `data.`; `url` is a path without a query."""
    tree, by_id = (tree_of(expand) if expand else None), _by_id(included)
    data = [shown(one, personal, expand=tree, included=by_id) for one in objects]
    return envelope(data, url=url, has_more=has_more)


def envelope(data: Sequence[object], *, url: str, has_more: bool) -> bytes:
    """The list around values that are JSON already, or plain."""
    return _encode({"object": "list", "data": data, "has_more": has_more, "url": url})


def event_json(header: EventHeader, facts: EventFacts, personal: Personal) -> msgspec.Raw:
    """One event, in the shape that its object had when it happened."""
    data: dict[str, Any] = {"object": shown(facts.object, personal, shape=facts.shape)}
    if facts.previous:
        data["previous_attributes"] = msgspec.Raw(facts.previous)
    return msgspec.Raw(
        _encode(
            {
                "id": header.id,
                "object": "event",
                "api_version": API_VERSION,
                "created": header.created,
                "data": data,
                "livemode": header.livemode,
                "pending_webhooks": header.pending_webhooks,
                "request": {"id": header.request_id, "idempotency_key": header.idempotency_key},
                "type": header.type,
            }
        )
    )


def _by_id(included: Iterable[Facts]) -> dict[str, Facts]:
    return {one.id: one for one in included if hasattr(one, "id")}
