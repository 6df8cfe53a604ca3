"""/v1/dead_letters over HTTP: a merchant sees and decides about entries of his own, singly and in bulk."""

import json

import asyncpg
import pytest
import pytest_asyncio
from api_world import ApiWorld, Merchant, api_world, database_name, fresh_database

from guilder.core.clock import SystemClock
from guilder.core.ids import Ids
from guilder.log.model import Announced, announced_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONSUMER = "nobody_reads_this"


class Letters:
    """Dead letters that a test puts there."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.ids = Ids(SystemClock())
        self.position = 1_000

    async def add(self, merchant: Merchant, key: str, reason: str = "ValueError: no") -> str:
        """An open letter of this merchant's with its parked entry; returns its id."""
        self.position += 1
        letter, entry = self.ids.new("dl"), announced_bytes(Announced(merchant.id, False, (("evt_1", "charge.failed"),)))
        await self.connection.execute(
            "INSERT INTO log_parked (consumer, key, topic, partition, position, payload, tries, retry_at, dead_letter) "
            "VALUES ($1, $2, 2, 3, $3, $4, 5, 0, $5)",
            CONSUMER, key, self.position, entry, letter,
        )  # fmt: skip
        await self.connection.execute(
            "INSERT INTO dead_letter (id, consumer, topic, partition, position, key, payload, reason, trace, tries, created_at, state, account, "
            "livemode, history) VALUES ($1, $2, 2, 3, $3, $4, $5, $6, 'Traceback', 5, 1, 'open', $7, false, '[[1, 2000000, \"ValueError: no\"]]')",
            letter, CONSUMER, self.position, key, entry, reason, merchant.id,
        )  # fmt: skip
        return letter

    async def event(self, id_: str, merchant: Merchant, type_: str) -> None:
        """An event of this merchant's."""
        self.position += 1
        await self.connection.execute(
            "INSERT INTO event (id, account, livemode, number, type, created_at, facts) VALUES ($1, $2, false, $3, $4, 0, '')",
            id_, merchant.id, self.position, type_,
        )  # fmt: skip

    async def parked(self, letter: str) -> asyncpg.Record | None:
        """The parked row that still waits for a person's word."""
        return await self.connection.fetchrow("SELECT * FROM log_parked WHERE dead_letter = $1", letter)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chain(server, tmp_path_factory):
    """The chain, and a way to its database."""
    async with fresh_database(server, database_name("dead")) as dsn, api_world(dsn, tmp_path_factory.mktemp("api")) as world:
        connection = await asyncpg.connect(dsn)
        yield world, Letters(connection)
        await connection.close()


async def test_a_letter_is_listed_and_shown_to_its_merchant_only(chain: tuple[ApiWorld, Letters]):
    """With what it says, the tries that failed, and the stack."""
    api, letters = chain
    mine, other = await api.merchant(), await api.merchant()
    letter = await letters.add(mine, "pi_1")
    [listed] = (await api.get("/v1/dead_letters", mine.secret))["data"]
    assert (listed["id"], listed["state"], listed["content"]["events"]) == (letter, "open", [["evt_1", "charge.failed"]])
    shown = await api.get(f"/v1/dead_letters/{letter}", mine.secret)
    assert (shown["stack"], shown["history"]) == ("Traceback", [{"at": 2, "reason": "ValueError: no", "try": 1}])
    assert (await api.get("/v1/dead_letters", other.secret))["data"] == []
    for path in (f"/v1/dead_letters/{letter}/replay", f"/v1/dead_letters/{letter}/discard"):
        assert (await api.post(path, other.secret)).status == 404
    assert (await api.post("/v1/dead_letters/bulk_discard", other.secret))["data"] == []
    assert (await letters.parked(letter)) is not None


async def test_a_replay_may_bring_new_content_and_has_one_effect(chain: tuple[ApiWorld, Letters]):
    """First what it would do; content that nobody could read is refused by its field."""
    api, letters = chain
    mine = await api.merchant()
    letter = await letters.add(mine, "pi_2")
    path = f"/v1/dead_letters/{letter}/replay"
    content = json.dumps({"account": mine.id, "livemode": False, "events": [["evt_2", "charge.captured"]]})
    await letters.event("evt_2", mine, "charge.captured")
    planned = await api.post(path, mine.secret, payload=content, dry_run=True)
    assert (planned["done"], "with its new content" in planned["text"]) == (False, True)
    no_text = json.dumps({"account": mine.id, "livemode": False, "events": [["evt_\0", "charge.captured"]]})
    for wrong in ("{}", no_text):
        refused = await api.post(path, mine.secret, payload=wrong)
        assert (refused.status, refused.error["param"]) == (400, "payload")
    assert (await letters.parked(letter)) is not None
    assert (await api.post(path, mine.secret, payload=content))["done"]
    assert not (await api.post(path, mine.secret))["done"]
    assert (await api.get(f"/v1/dead_letters/{letter}", mine.secret))["edited"]["events"] == [["evt_2", "charge.captured"]]
    stored = await letters.connection.fetchval("SELECT payload FROM log_parked WHERE key = 'pi_2'")
    assert stored == announced_bytes(Announced(mine.id, False, (("evt_2", "charge.captured"),)))


async def test_new_content_names_no_event_of_another_merchant(chain: tuple[ApiWorld, Letters]):
    """Or it would be sent to one's own webhook endpoints, with all that stands in it."""
    api, letters = chain
    mine, other = await api.merchant(), await api.merchant()
    letter = await letters.add(mine, "pi_5")
    await letters.event("evt_theirs", other, "charge.captured")
    await letters.event("evt_mine", mine, "charge.captured")
    for named in (["evt_theirs", "charge.captured"], ["evt_mine", "charge.failed"]):
        content = json.dumps({"account": mine.id, "livemode": False, "events": [["evt_mine", "charge.captured"], named]})
        answer = await api.post(f"/v1/dead_letters/{letter}/replay", mine.secret, payload=content)
        assert (answer.status, answer.error["param"]) == (400, "payload")
    assert (await letters.parked(letter)) is not None


async def test_many_are_discarded_at_once_after_a_look(chain: tuple[ApiWorld, Letters]):
    """Those that fit, and no others."""
    api, letters = chain
    mine = await api.merchant()
    first, second = [await letters.add(mine, f"pi_3{number}", "KeyError: x") for number in range(2)]
    kept = await letters.add(mine, "pi_4")
    planned = (await api.post("/v1/dead_letters/bulk_discard", mine.secret, reason="KeyError", dry_run=True))["data"]
    assert {one["id"] for one in planned} == {first, second}
    assert all(one["text"].startswith("would give up") for one in planned)
    done = (await api.post("/v1/dead_letters/bulk_discard", mine.secret, reason="KeyError"))["data"]
    assert [one["done"] for one in done] == [True, True]
    states = {one["id"]: one["state"] for one in (await api.get("/v1/dead_letters", mine.secret, consumer=CONSUMER))["data"]}
    assert states == {first: "discarded", second: "discarded", kept: "open"}
