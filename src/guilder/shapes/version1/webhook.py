"""WebhookEndpoints, as JSON."""

from typing import Any

from guilder.shapes.facts import WebhookEndpointFacts
from guilder.shapes.version1.personal import Personal, record


def endpoint(facts: WebhookEndpointFacts, personal: Personal) -> dict[str, Any]:
    """A WebhookEndpoint, or what is left of a deleted one. Its secret is there only where it was handed in, opened, by its id."""
    if facts.deleted:
        return {"id": facts.id, "object": "webhook_endpoint", "deleted": True}
    view: dict[str, Any] = {
        "id": facts.id,
        "object": "webhook_endpoint",
        "api_version": facts.api_version,
        "application": None,
        "created": facts.created,
        "description": facts.description,
        "enabled_events": list(facts.enabled_events),
        "livemode": facts.livemode,
        "metadata": dict(facts.metadata),
    }
    secret = record(personal, facts.id).get("secret") if facts.sealed else None
    if secret is not None:
        view["secret"] = secret
    view["status"] = facts.status
    view["url"] = facts.url
    ours = {
        "disabled_reason": facts.disabled_reason, "not_sent_yet": list(facts.not_sent_yet) or None,
        "previous_secret_until": facts.previous_secret_until,
    }  # fmt: skip
    shown = {name: value for name, value in ours.items() if value is not None}
    if shown:
        view["guilder"] = shown
    return view
