"""Personal records: names, addresses, mails, sealed. Written once, never changed; facts elsewhere hold their ids.

A record opens only for its merchant, mode and id. After an erasure its row stands without content, and whatever points to
it shows null.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from guilder.core.clock import Clock, Micros
from guilder.core.errors import Refusal
from guilder.core.ids import Ids
from guilder.db import Connection, Database
from guilder.security import PurposeKeys, bind

# Many records at once. A repeated id is the same record: the insertion may be run again after a lost answer.
INSERT: Final = """
INSERT INTO personal (id, account, livemode, sealed, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::bytea[], $5::bigint[]) ON CONFLICT (id) DO NOTHING
"""
# The records of some ids for one merchant and mode.
SELECT: Final = "SELECT id, sealed FROM personal WHERE id = ANY($1) AND account = $2 AND livemode = $3 AND sealed IS NOT NULL"

# All fields of a record together. Stripe's own limits per field add up to less.
RECORD_BYTES_MAX: Final = 65_536

_encode = msgspec.json.encode
_decoder = msgspec.json.Decoder(dict[str, Any])


class PersonalRow(Struct, frozen=True, kw_only=True):
    """A sealed record, ready to be stored."""

    id: str
    account: str
    livemode: bool
    sealed: bytes
    created_at: Micros


class Personal:
    """Seals and opens personal records."""

    def __init__(self, db: Database, keys: PurposeKeys, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._ids = ids

    def seal(self, account: str, fields: Mapping[str, Any], *, livemode: bool) -> PersonalRow | None:
        """A record of the fields that have a value, not stored yet; None when none has. Raises Refusal when it is too large."""
        kept = {name: value for name, value in fields.items() if value is not None}
        if not kept:
            return None
        plain = _encode(kept)
        if len(plain) > RECORD_BYTES_MAX:
            raise Refusal(f"Personal details may have at most {RECORD_BYTES_MAX} bytes in all.")
        id_ = self._ids.new("prs")
        sealed = self._keys.personal.seal(plain, _place(account, livemode, id_))
        return PersonalRow(id=id_, account=account, livemode=livemode, sealed=sealed, created_at=self._clock.now())

    async def store(self, rows: Sequence[PersonalRow], connection: Connection | None = None) -> None:
        """Store records, in the caller's transaction or, without one, at once. Safe to repeat."""
        if rows:
            through = connection or self._db
            await through.execute(
                INSERT,
                [row.id for row in rows],
                [row.account for row in rows],
                [row.livemode for row in rows],
                [row.sealed for row in rows],
                [row.created_at for row in rows],
            )

    async def keep(
        self, account: str, fields: Mapping[str, Any], *, livemode: bool, connection: Connection | None = None,
    ) -> str | None:
        """Seal and store a record; its id, None when no field has a value."""
        row = self.seal(account, fields, livemode=livemode)
        if row is None:
            return None
        await self.store([row], connection)
        return row.id

    async def changed(
        self,
        account: str,
        before: str | None,
        changes: Mapping[str, Any],
        *,
        livemode: bool,
        connection: Connection | None = None,
    ) -> str | None:
        """The record after some fields were set or, by None, unset: the same one when nothing changes, else a new one."""
        if not changes:
            return before
        fields = await self.open(account, before, livemode=livemode, connection=connection)
        after = {name: value for name, value in {**fields, **changes}.items() if value is not None}
        if after == fields:
            return before
        return await self.keep(account, after, livemode=livemode, connection=connection)

    async def open_many(
        self, account: str, ids: Iterable[str], *, livemode: bool, connection: Connection | None = None,
    ) -> dict[str, dict[str, Any]]:
        """The opened records by id, in one statement; what was erased, or is another merchant's, is not there."""
        wanted = list(ids)
        if not wanted:
            return {}
        rows = await (connection or self._db).fetch(SELECT, wanted, account, livemode)
        key = self._keys.personal
        return {row["id"]: _decoder.decode(key.open(row["sealed"], _place(account, livemode, row["id"]))) for row in rows}

    async def open(
        self, account: str, id_: str | None, *, livemode: bool, connection: Connection | None = None,
    ) -> dict[str, Any]:
        """One opened record; empty when there is none."""
        if id_ is None:
            return {}
        return (await self.open_many(account, [id_], livemode=livemode, connection=connection)).get(id_, {})


def _place(account: str, livemode: bool, id_: str) -> bytes:  # noqa: FBT001
    return bind("personal", account, "live" if livemode else "test", id_)
