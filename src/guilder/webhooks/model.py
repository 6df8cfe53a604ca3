"""The nouns of webhooks: what is asked for, what stands in the rows, and what came of a try."""

from msgspec import UNSET, Struct, UnsetType

from guilder.core.clock import Micros
from guilder.shapes.facts import Metadata, WebhookEndpointFacts
from guilder.shapes.metadata import MetadataChange


class CreateEndpoint(Struct, frozen=True, kw_only=True):
    """Make an endpoint. The url and the types have not been looked at yet."""

    url: str
    enabled_events: tuple[str, ...]
    description: str | None = None
    metadata: Metadata = ()
    api_version: str | None = None


class UpdateEndpoint(Struct, frozen=True, kw_only=True):
    """Change an endpoint; UNSET leaves a member as it is."""

    endpoint: str
    url: str | UnsetType = UNSET
    enabled_events: tuple[str, ...] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    metadata: MetadataChange = UNSET
    disabled: bool | UnsetType = UNSET


class StoredEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint as its row holds it, secrets sealed."""

    account: str
    facts: WebhookEndpointFacts
    state: str
    secret: bytes
    previous_secret: bytes | None
    previous_until: Micros | None
    version: int


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of a delivery: when, how long it took, what was answered, or why nothing was; `url` is None where nothing could be sent."""

    number: int
    sent_at: Micros
    milliseconds: int
    status: int | None
    failure: str | None
    answer: str | None
    url: str | None


class Delivery(Struct, frozen=True, kw_only=True):
    """One event for one endpoint.

    Attributes:
        number: its place in the endpoint's own count.
        fanout: how many endpoints the event went to.
        due_at: when the next try is due; None when it waits for its first, or when there is none any more.
        attempts: oldest first; only where they were asked for.
    """

    id: str
    account: str
    livemode: bool
    endpoint: str
    number: int
    event: str
    type: str
    fanout: int
    state: str
    tries: int
    created_at: Micros
    due_at: Micros | None
    attempts: tuple[Attempt, ...] = ()


class Next(Struct, frozen=True):
    """A delivery that is to be tried now, and the number of that try."""

    endpoint: str
    number: int
    event: str
    fanout: int
    attempt: int
    account: str
    livemode: bool
    created_at: Micros


class Result(Struct, frozen=True):
    """What came of one try.

    Attributes:
        due_at: of a failure: when the next one is due, None when there is none.
        url: where it went, None when nothing could be sent.
    """

    endpoint: str
    number: int
    event: str
    attempt: int
    ok: bool
    sent_at: Micros
    milliseconds: int
    status: int | None
    failure: str | None
    answer: str | None
    due_at: Micros | None = None
    url: str | None = None
