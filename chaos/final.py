"""The final phase: heal, let it come to rest, settle every open question of the clients, read everything, judge."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
from msgspec.structs import replace

from chaos.asking import World
from chaos.client import Client, Merchant, Request
from chaos.faults.kafka import judge_topics
from chaos.history import History, Line, read
from chaos.http_proxy import FIRST_PATHS
from chaos.invariants import INVARIANTS, orders_taken_twice
from chaos.lab import Lab, Window
from chaos.page import Buyer, Order
from chaos.proxy import FIRST
from chaos.records import Effects, Records, read_books
from chaos.restored import not_this_check, strangers
from chaos.system import Broken

# Business time that the final phase lets pass: all questions about what was undone have been asked again by then.
DAYS: Final = ("90s", "20m", "25h")
# A repeat long after the first answer: so many keys of a run.
REPEATED_MAX: Final = 400
TYPED_SECRETS_MAX: Final = 50
AVAILABLE_MIN: Final = 0.999
PAGE: Final = 100
FINAL_CLIENT: Final = 999
SHOWN: Final = ("/v1/payment_intents", "/v1/checkout/sessions")
MEMORY_MAX: Final = 400_000_000

# A refund that is begun anew after a failure waits for that by its schedule; the days that pass at the end bring it about.
_OPEN: Final = """
SELECT o.attempt, o.payment, o.slot, o.state, o.tries, a.operation FROM attempt_open o JOIN attempt a ON a.id = o.attempt
WHERE o.state NOT IN ('recheck', 'awaiting_buyer')
  AND NOT (o.state = 'created' AND a.operation = 'refund' AND o.retry_at > a.created_at + 20000000) ORDER BY o.since_at
"""
# A page that nobody has paid is open for a quarter of an hour of business time, which the second step of DAYS is beyond.
_PAGES: Final = "SELECT a.reference FROM attempt_open o JOIN attempt a ON a.id = o.attempt WHERE o.state = 'awaiting_buyer'"
_ORDERS: Final = "SELECT id FROM checkout_session WHERE state = 'open'"
# With the orders that the worker has to look at, by what a consumer has noted or because their time has passed: both in one snapshot,
# since the one makes the other.
_LAG: Final = """
SELECT c.consumer, h.head - c.applied_to AS lag FROM log_consumer c JOIN log_head h ON (h.topic, h.partition) = (c.topic, c.partition)
WHERE h.head > c.applied_to
UNION ALL SELECT 'who attends to orders', count(*) FROM checkout_session WHERE due_at <= $1 HAVING count(*) > 0
"""
_UNDELIVERED: Final = "SELECT id, tries FROM webhook_delivery WHERE state = 'pending' LIMIT 20"
_CONNECTIONS: Final = "SELECT count(*) AS count FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
CONNECTIONS_MAX: Final = 17
RELAY_CONNECTIONS: Final = 2


async def conclude(lab: Lab, world: World, days: Sequence[str] = DAYS) -> Records:
    """Everything after the last fault; findings are left in the lab. Business time moves by each of `days`."""
    lab.secrets += world.purse.used[:TYPED_SECRETS_MAX]
    await _rest(lab)
    async with aiohttp.ClientSession() as session:
        history = History(lab.histories, FINAL_CLIENT)
        client = Client(lab.system.ready["api"], session, history, Random(lab.seed), until=time.monotonic() + 120)
        await _settle(lab, world, client)
        await _rest(lab)
        for step in days:
            status, said = await lab.system.command("clock", "advance", step)
            if status:
                raise Broken(f"clock advance {step}: {said}")
            await _rest(lab)
        if days and (pages := await lab.system.rows(_PAGES)):
            lab.finding("I18", f"{len(pages)} pages at the PSP are still open after a day")
        await _repeat(lab, world, client)
        await _look(lab, world, session)
        if days and (waiting := await lab.system.rows(_ORDERS)):
            lab.finding("I18", f"{len(waiting)} orders are still open after their time")
        shown, sessions = [await _shown(world, session, lab.system.ready["api"], path) for path in SHOWN]
        history.close()
    records = await _read(lab, world, shown, sessions)
    await judge(lab, records)
    return records


async def _rest(lab: Lab) -> None:
    """I18: within a minute nothing is in doubt, no consumer lags, and every webhook has arrived. Waits no more once that failed.

    What waits for business time has half a minute from the moment in which nothing is in doubt any more.
    """
    if any(finding.startswith("I18") for finding in lab.findings):
        return
    began = time.monotonic()
    end = began + lab.rest_seconds
    moved = False
    while True:
        open_ = await lab.system.rows(_OPEN)
        lag = await lab.system.rows(_LAG, await lab.system.business_now())
        undelivered = await lab.system.rows(_UNDELIVERED)
        paid = () if open_ or lag or undelivered else await _paid_pages(lab)
        if not (open_ or lag or undelivered or paid):
            return
        if time.monotonic() > end:
            for reference in paid:
                lab.finding("I18", f"the page {reference} was paid at the PSP, and nobody knows a minute after healing")
            for row in open_[:5]:
                lab.finding("I18", f"still open a minute after healing: {dict(row)}")
            for row in lag[:3]:
                lab.finding("I18", f"{row['consumer']} is {row['lag']} entries behind a minute after healing")
            for row in undelivered[:3]:
                lab.finding("I18", f"not delivered a minute after healing: {dict(row)}")
            return
        if not moved and time.monotonic() > began + lab.rest_seconds / 2 and not any(row["state"] == "in_doubt" for row in open_):
            # Reversals and deliveries that have failed for long wait for up to an hour of business time.
            moved = True
            await lab.system.command("clock", "advance", "1h")
            end = max(end, time.monotonic() + lab.rest_seconds / 2)
        await asyncio.sleep(0.25)


async def _paid_pages(lab: Lab) -> Sequence[str]:
    """Pages whose buyer has paid, and which are still waited for: the PSP is asked about them a minute apart at most."""
    pages = await lab.system.rows(_PAGES)
    effects = Effects(await lab.system.truth()) if pages else Effects([])
    return [row["reference"] for row in pages if effects.of(row["reference"])]


async def _settle(lab: Lab, world: World, client: Client) -> None:
    """What a client was told nothing definite about is asked again under its key, until it is known. Else the run is unknown: red."""
    open_: dict[tuple[int, str], Line] = {}
    for line in read(lab.histories):
        if line.key and line.phase == "invoke" and line.op != "misuse":
            open_.setdefault((line.merchant, line.key), line)
    told = {
        (line.merchant, line.key) for line in read(lab.histories)
        if (line.phase == "ok" and line.op != "misuse") or line.phase == "left"
    }  # fmt: skip
    waiting = [line for place, line in open_.items() if place not in told and line.op != "gone"]
    lab.note(f"{len(waiting)} requests had no answer before the final phase")

    async def ask(line: Line) -> None:
        request = Request(line.op, world.merchants[line.merchant], line.method, line.path, line.params, line.key)
        if await client.ask(request) is None:
            lab.finding("unknown", f"nobody can say what became of {line.op} under the key {line.key}")

    for at in range(0, len(waiting), 16):
        await asyncio.gather(*(ask(line) for line in waiting[at : at + 16]))


async def _repeat(lab: Lab, world: World, client: Client) -> None:
    """The same requests again, more than a day later: I9 compares the answers."""
    lines = _lines(lab)
    told = {(line.merchant, line.key) for line in lines if line.phase == "ok"}
    asked = {
        (line.merchant, line.key): line for line in lines
        if line.phase == "invoke" and line.key and line.op not in ("misuse", "gone") and (line.merchant, line.key) in told
    }  # fmt: skip
    for line in lines:
        if line.phase == "left":
            asked.pop((line.merchant, line.key), None)
    chosen = lab.chance.sample(sorted(asked), min(REPEATED_MAX, len(asked)))
    for at in range(0, len(chosen), 16):
        lines = [asked[place] for place in chosen[at : at + 16]]
        await asyncio.gather(*(
            client.ask(Request(line.op, world.merchants[line.merchant], line.method, line.path, line.params, line.key)) for line in lines
        ))  # fmt: skip


async def _look(lab: Lab, world: World, session: aiohttp.ClientSession) -> None:
    """A last look at the page of every order, when everything has come to rest and its time has passed."""
    history = History(lab.histories, FINAL_CLIENT, "buyer")
    buyer = Buyer(session, history, world.purse, Random(lab.seed))
    origin = lab.system.ready["checkout"]
    orders = {
        line.object: Order(line.object, origin + line.path, line.merchant, line.amount, line.currency)
        for line in read(lab.histories) if line.op == "buy" and line.phase == "invoke"
    }  # fmt: skip
    lab.note(f"{len(orders)} orders at the payment page, {len(world.purse.used)} cards tried there and at readers")
    for at in range(0, len(orders), 16):
        await asyncio.gather(*(buyer.look(order) for order in list(orders.values())[at : at + 16]))
    history.close()


async def _shown(world: World, session: aiohttp.ClientSession, url: str, path: str) -> Mapping[str, Mapping[str, Any]]:
    """Everything that stands in one of the API's lists now, by id."""
    found: dict[str, Mapping[str, Any]] = {}
    for merchant in world.merchants:
        after = ""
        while True:
            page = await _get(session, url, merchant, f"{path}?limit={PAGE}{after}")
            found |= {one["id"]: one for one in page["data"]}
            if not page["has_more"]:
                break
            after = f"&starting_after={page['data'][-1]['id']}"
    return found


async def _get(session: aiohttp.ClientSession, url: str, merchant: Merchant, path: str) -> dict[str, Any]:
    async with session.get(url + path, headers={"Authorization": f"Bearer {merchant.secret}"}) as answer:
        if answer.status != 200:
            raise Broken(f"GET {path}: {answer.status} {await answer.text()}")
        document: dict[str, Any] = await answer.json()
        return document


def _lines(lab: Lab) -> Sequence[Line]:
    """What clients wrote, but for the answers that a restore may have made untrue."""
    lines = list(read(lab.histories))
    return lab.restore.promised(lines) if lab.restore else lines


async def _read(lab: Lab, world: World, shown: Mapping[str, Mapping[str, Any]], sessions: Mapping[str, Mapping[str, Any]]) -> Records:
    truth, lost = Effects(await lab.system.truth()), lab.restore.lost if lab.restore else ()
    async with lab.system.database() as connection:
        books = await read_books(connection)
    return Records(
        lines=_lines(lab), truth=lab.restore.effects(truth, books.attempts) if lab.restore else truth, lost=lost, books=books,
        shown=shown, webhooks=lab.receiver.seen,
        endpoints=lab.endpoints, counted=lab.proxy.counted + lab.web.counted,
        sent=Counter(one.reference for one in lab.proxy.sent if one.mti in ("0100", "0200")),
        opinions=lab.risk.opinions, sessions=sessions, taken=await world.purse.taken(),
        clocks_agree=not any(window.kind.startswith("T") for window in lab.windows),
    )  # fmt: skip


async def judge(lab: Lab, records: Records) -> None:
    """All invariants on what was read, and the product's own check."""
    for name, invariant in INVARIANTS.items():
        for text in invariant(records):
            lab.finding(name, text)
    for name, count in lab.receiver.forged.items():
        lab.finding("I12", f"{count} deliveries to {name} were not signed as they should be")
    _judge_zombies(lab)
    for text in refused_without_need(lab.windows, records.lines):
        lab.finding("I19", text)
    _judge_closed(lab, records)
    await _judge_size(lab)
    _judge_secrecy(lab)
    await judge_topics(lab)
    for text in await _checked(lab, records):
        lab.finding("check", text)


async def _checked(lab: Lab, records: Records) -> Sequence[str]:
    """What `guilder check` finds; effects whose intents a restore took with it are what it is for."""
    if lab.restore is None:
        status, said = await lab.system.command("check", seconds=300)
        return [said[-1_500:]] if status else []
    truth = await lab.system.truth()
    twice = list(orders_taken_twice(replace(records, truth=Effects(truth))))
    lab.note(f"{len(twice)} orders of the time that was lost were taken twice, under keys that the books had never heard of")
    _, said = await lab.system.command("check", "--json", seconds=300)
    unknown = strangers(truth, records.books.attempts)
    return [
        *not_this_check(json.JSONDecoder().raw_decode(said[said.index("{") :])[0]["checks"], len(unknown)),
        *(f"{one} is nobody's, and was not lost" for one in sorted(unknown - lab.restore.references)),
    ]  # fmt: skip


def _judge_zombies(lab: Lab) -> None:
    """I17: a process that went on after its lease sent no first request of what it had in hand when it stood still."""
    for woken, held in lab.zombies:
        for sent in (*lab.proxy.sent, *lab.web.sent):
            if sent.at >= woken and sent.reference in held and sent.mti in ("0100", "0200", "payments", "refunds"):
                lab.finding("I17", f"{sent.reference} was sent {sent.at - woken:.3f} s after its sender had been away")


def refused_without_need(windows: Sequence[Window], lines: Sequence[Line]) -> Iterator[str]:
    """I19: with one part away, whoever only has to accept does: at least 99.9% of requests without card data, or all but one.

    Counted is what was asked and answered while it was away: what was under way before may have met something else.
    """
    for window in windows:
        alone = not any(other is not window and other.began < (window.ended or 2**63) and window.began < (other.ended or 2**63)
                        for other in windows)  # fmt: skip
        if window.down not in NEEDLESS or not alone:
            continue
        answers = [
            line for line in lines if line.asked > window.began and line.at < (window.ended or 2**63) and line.op in ACCEPTED
            and not (window.down == "vault" and line.op in NEED_CARDS)
        ]  # fmt: skip
        refused = sum(line.phase == "fail" for line in answers)
        if refused > max(1, len(answers) * (1 - AVAILABLE_MIN)):
            yield f"{window.down} was away, and {refused} of {len(answers)} requests were refused"


def _judge_closed(lab: Lab, records: Records) -> None:
    """I16: with the database away nothing new is sent once the lease is over; with the vault away, nothing that needs a card."""
    pages = {line.object for line in records.lines if line.op == "page"}
    cards = {one["reference"] for one in records.books.attempts if one["operation"] in NEED_VAULT and one["payment"] not in pages}
    for window in lab.windows:
        if (allowed := STILL_SENT_SECONDS.get(window.down)) is None:
            continue
        sent = [
            one for one in (*lab.proxy.sent, *lab.web.sent) if one.mti in FIRST | FIRST_PATHS
            and window.began / 1e9 + allowed < one.at < window.ended / 1e9 and (window.down == "database" or one.reference in cards)
        ]  # fmt: skip
        if sent:
            lab.finding("I16", f"{window.down} was away, and {len(sent)} new requests were sent, {sent[0].reference} among them")


# For so long may be sent what had its card, or its lease, before: a lease is 3 s.
STILL_SENT_SECONDS: Final[Mapping[str, float]] = {"vault": 1.0, "database": 3.2}
NEED_VAULT: Final = frozenset({"purchase", "authorize", "authenticate"})
ACCEPTED: Final = frozenset({"pay", "page", "order", "till", "authorize", "refund", "capture", "cancel", "transfer", "read"})
# Who only has to accept needs none of these, the vault for cards apart.
NEEDLESS: Final = frozenset({"executor", "worker", "relay", "network", "vault", "psp", "cardnet", "broker", "brokers"})
NEED_CARDS: Final = frozenset({"pay", "authorize"})


async def _judge_size(lab: Lab) -> None:
    """I20: connections and memory stay within their bounds."""
    [row] = await lab.system.rows(_CONNECTIONS)
    if row["count"] > CONNECTIONS_MAX + (RELAY_CONNECTIONS if lab.brokers else 0):
        lab.finding("I20", f"{row['count']} connections to the database")
    for role, pids in lab.system.running()["roles"].items():
        for pid in pids:
            if (size := lab.system.memory(pid)) > MEMORY_MAX:
                lab.finding("I20", f"{role} uses {size / 1e6:.0f} MB")


def _judge_secrecy(lab: Lab) -> None:
    """I15: no card number, CVC or key of this run outside the vault and the bank: in no log and no file of the database."""
    wanted = [secret.encode() for secret in lab.secrets]
    bank = lab.system.data / "network"
    for file in lab.system.data.rglob("*"):
        if not file.is_file() or bank in file.parents or file.name == "sandbox.json":
            continue
        if (found := _holds(file, wanted)) is not None:
            lab.finding("I15", f"{file.relative_to(lab.system.data)} holds {found[:6].decode()}...")


def _holds(file: Path, wanted: Sequence[bytes]) -> bytes | None:
    try:
        content = file.read_bytes()
    except OSError:
        return None
    return next((secret for secret in wanted if secret in content), None)
