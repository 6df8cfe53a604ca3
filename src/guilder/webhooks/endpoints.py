"""Endpoints: where a merchant's events go, under which secret. Every mutation runs in a transaction of its caller."""

from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from guilder.core.clock import HOUR, Clock, epoch_seconds
from guilder.core.errors import Refusal, missing
from guilder.core.ids import Ids
from guilder.db import Connection, Database
from guilder.db.pages import Page, fetch_page
from guilder.security import SECRET_BYTES, PurposeKeys, Secret, bind, webhook_secret
from guilder.shapes.facts import WebhookEndpointFacts
from guilder.shapes.metadata import merged
from guilder.shapes.render import API_VERSION
from guilder.webhooks import store
from guilder.webhooks.addresses import Allowed, check_url
from guilder.webhooks.model import CreateEndpoint, StoredEndpoint, UpdateEndpoint
from guilder.webhooks.rules import ENDPOINTS_MAX
from guilder.webhooks.types import check_events, unsent_of

KIND: Final = "webhook endpoint"
# How long the secret before a rotation stays valid: by default and at most as at Stripe, a day.
OVERLAP_HOURS_MAX: Final = 24


class Endpoints:
    """Makes, changes and finds endpoints. One per process.

    Args:
        allowed: what may be reached beyond public addresses, in test mode and in live mode.
    """

    def __init__(self, db: Database, keys: PurposeKeys, clock: Clock, ids: Ids, *, allowed: tuple[Allowed, Allowed]) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._ids = ids
        self._allowed = allowed

    async def create(self, connection: Connection, account: str, command: CreateEndpoint, *, livemode: bool) -> WebhookEndpointFacts:
        """Make an endpoint; its facts bear the sealed secret, which no later answer does.

        Raises Refusal (400): address, types or version cannot be; the merchant has as many endpoints as it may.
        """
        check_url(command.url, self._allowed[livemode])
        types = check_events(command.enabled_events)
        _check_version(command.api_version)
        await connection.execute(store.LOCK_ACCOUNT, account, livemode)
        if await connection.fetchval(store.COUNT_ENDPOINTS, account, livemode) >= ENDPOINTS_MAX:
            mode = "live" if livemode else "test"
            raise Refusal(f"You have reached the maximum of {ENDPOINTS_MAX} {mode} webhook endpoints. Delete one that you do not need.")
        now = self._clock.now()
        facts = WebhookEndpointFacts(
            id=self._ids.new("we"), livemode=livemode, created=epoch_seconds(now), url=command.url, enabled_events=types,
            status="enabled", api_version=command.api_version, description=command.description, metadata=command.metadata,
            not_sent_yet=unsent_of(types),
        )  # fmt: skip
        sealed = self._seal(account, facts)
        await store.insert_endpoint(connection, account, facts, secret=sealed, now=now)
        return replace(facts, sealed=sealed)

    async def update(self, connection: Connection, account: str, command: UpdateEndpoint, *, livemode: bool) -> WebhookEndpointFacts:
        """Change an endpoint. To enable it again lets what waits for it go on, and forgives what failed before.

        Raises Refusal: no such endpoint (404); address, types or metadata cannot be (400).
        """
        before = (await self._locked(connection, account, command.endpoint, livemode=livemode)).facts
        if command.url is not UNSET:
            check_url(command.url, self._allowed[livemode])
        types = before.enabled_events if command.enabled_events is UNSET else check_events(command.enabled_events)
        disabled = before.status == "disabled" if command.disabled is UNSET else command.disabled
        after = replace(
            before,
            url=before.url if command.url is UNSET else command.url,
            enabled_events=types,
            not_sent_yet=unsent_of(types),
            description=before.description if command.description is UNSET else command.description,
            metadata=merged(before.metadata, command.metadata),
            status="disabled" if disabled else "enabled",
            disabled_reason=before.disabled_reason if disabled else None,
        )
        if after != before:
            await store.update_endpoint(connection, after)
        if after.status == "enabled" and before.status == "disabled":
            await connection.execute(store.FORGIVE, after.id)
        return after

    async def rotate(
        self, connection: Connection, account: str, id_: str, *, livemode: bool, overlap_hours: int = OVERLAP_HOURS_MAX,
    ) -> WebhookEndpointFacts:  # fmt: skip
        """Give an endpoint a new secret, and let the present one be valid beside it for so many hours.

        A secret that was still valid from an earlier rotation ends at once. Raises Refusal (404).
        """
        before = await self._locked(connection, account, id_, livemode=livemode)
        sealed = self._seal(account, before.facts)
        until = self._clock.now() + overlap_hours * HOUR if overlap_hours else None
        await connection.execute(store.ROTATE, id_, sealed, before.secret if until else None, until)
        return replace(before.facts, sealed=sealed, previous_secret_until=None if until is None else epoch_seconds(until))

    async def delete(self, connection: Connection, account: str, id_: str, *, livemode: bool) -> WebhookEndpointFacts:
        """Delete an endpoint; what waits for it is called off. Raises Refusal (404)."""
        before = await self._locked(connection, account, id_, livemode=livemode)
        await connection.execute(store.DELETE_ENDPOINT, id_)
        return replace(before.facts, deleted=True)

    async def retrieve(self, account: str, id_: str, *, livemode: bool) -> WebhookEndpointFacts:
        """An endpoint, without its secret. Raises Refusal (404)."""
        row = await self._db.fetchrow(store.SELECT_ENDPOINT, id_, account, livemode)
        if row is None:
            raise missing(KIND, id_)
        return store.endpoint_of(row).facts

    async def list(self, account: str, page: Page, *, livemode: bool) -> tuple[list[WebhookEndpointFacts], bool]:
        """A page of endpoints, newest first, and whether there are more. Raises Refusal (400) for a wrong cursor."""
        where = [("state <> ?", "deleted")]
        rows, more = await fetch_page(self._db, store.ENDPOINTS, page, account=account, livemode=livemode, where=where)
        return [store.endpoint_of(row).facts for row in rows], more

    def open(self, account: str, facts: WebhookEndpointFacts) -> Secret:
        """The secret that these facts bear sealed."""
        return open_secret(self._keys, account, facts.id, facts.sealed, livemode=facts.livemode)

    def _seal(self, account: str, facts: WebhookEndpointFacts) -> bytes:
        """A new secret, sealed for its place."""
        secret = webhook_secret(self._ids.bits(8 * SECRET_BYTES).to_bytes(SECRET_BYTES, "big"))
        return self._keys.webhooks.seal(secret.reveal().encode(), _place(account, facts.id, livemode=facts.livemode))

    async def _locked(self, connection: Connection, account: str, id_: str, *, livemode: bool) -> StoredEndpoint:
        found = await store.lock_endpoint(connection, account, id_, livemode=livemode)
        if found is None:
            raise missing(KIND, id_)
        return found


def open_secret(keys: PurposeKeys, account: str, endpoint: str, sealed: bytes, *, livemode: bool) -> Secret:
    """A sealed secret, opened in its place. Raises NotAuthentic when it stands in another one."""
    return Secret(keys.webhooks.open(sealed, _place(account, endpoint, livemode=livemode)).decode())


def _place(account: str, endpoint: str, *, livemode: bool) -> bytes:
    return bind("webhook secret", account, "live" if livemode else "test", endpoint)


def _check_version(version: str | None) -> None:
    if version is not None and version != API_VERSION:
        raise Refusal(
            f"Invalid API version: events are sent in the shape of {API_VERSION} and no other. Leave api_version out, or pass this one.",
            param="api_version",
        )
