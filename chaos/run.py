"""One run: the system up, clients at work, faults one after the other or drawn by chance, then the final phase and the verdict."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

import aiohttp
from confluent_kafka import KafkaException
from msgspec import Struct

from chaos.asking import World
from chaos.client import Client
from chaos.faults import Fault
from chaos.final import DAYS, conclude
from chaos.history import History
from chaos.lab import Lab, NotHere
from chaos.page import Buyer
from chaos.records import Records
from chaos.system import Broken
from chaos.workload import Shopper, prepare

# Card numbers that are looked for in every file at the end, beside some that were typed at the page and held to readers; and those that
# the test tokens stand for.
SECRETS_MAX: Final = 150
TOKEN_CARDS: Final = ("4242424242424242", "5555555555554444", "378282246310005")
SNAPSHOT_SECONDS: Final = 2.0
_TRIAL: Final = """
SELECT a.currency, sum(s.debits_posted) - sum(s.credits_posted) AS posted, sum(s.debits_pending) - sum(s.credits_pending) AS pending
FROM ledger_standing s JOIN ledger_account a ON a.number = s.number GROUP BY a.currency
HAVING sum(s.debits_posted) <> sum(s.credits_posted) OR sum(s.debits_pending) <> sum(s.credits_pending)
"""

Script = Callable[[Lab, World], Awaitable[None]]
"""What happens while the clients work; the run's load ends when it returns."""


class Size(Struct, frozen=True, kw_only=True):
    """How large a run is, and with `mostly` the operation that is as frequent as all others together.

    `pause` is a client's mean wait between two operations, in seconds.
    """

    clients: int = 12
    merchants: int = 20
    cards: int = 2_000
    pause: float = 0.15
    scale: float = 1.0
    rest_seconds: float = 60.0
    mostly: str = ""


class Verdict(Struct, kw_only=True):
    """What came of a run."""

    seed: int
    seconds: float
    operations: int = 0
    payments: int = 0
    attempts: int = 0
    kills: int = 0
    failovers: int = 0
    faults: dict[str, int]
    findings: list[str]
    notes: list[str]
    kept: str = ""

    @property
    def red(self) -> bool:
        """Whether anything was not as it must be."""
        return bool(self.findings)


async def run(
    script: Script, *, seed: int, size: Size, bug: str = "", keep: Path | None = None, days: Sequence[str] = DAYS,
    clustered: bool = False, disk_bytes: int = 0, brokers: int = 0,
) -> Verdict:  # fmt: skip
    """The whole of it, on a folder of its own, which stays there when the verdict is red (or with `keep`)."""
    began = time.monotonic()
    folder = keep or Path(tempfile.mkdtemp(prefix="guilder-chaos-"))
    lab = Lab(folder, seed=seed, scale=size.scale, bug=bug, clustered=clustered, disk_bytes=disk_bytes, brokers=brokers)
    lab.rest_seconds = size.rest_seconds
    records: Records | None = None
    world: World | None = None
    try:
        await lab.start()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            world = await prepare(lab.system, session, merchants=size.merchants, cards=size.cards, mark=f"s{seed:x}")
            lab.merchants = world.merchants
            lab.secrets = [*world.cards[:SECRETS_MAX], *TOKEN_CARDS, *(merchant.secret for merchant in world.merchants)]
            await _endpoints(lab, world, session)
            await _under_load(script, lab, world, session, size)
        loaded = time.monotonic()
        records = await conclude(lab, world, days)
        lab.note(f"{loaded - began:.0f} s until the load ended, {time.monotonic() - loaded:.0f} s of final phase")
        await lab.system.down()
    except subprocess.CalledProcessError as error:
        _not_run(lab, f"this machine does not let us mount a file system ({error.stderr.decode().strip()})")
    except NotHere as error:
        _not_run(lab, str(error))
    except (Broken, TimeoutError, aiohttp.ClientError, KafkaException, OSError) as error:
        lab.finding("unknown", f"{type(error).__name__}: {error}")
    finally:
        lab.system.kill_what_is_left()
        await lab.close()
    return _verdict(lab, world, records, folder, began, kept=keep is not None)


def _not_run(lab: Lab, why: str) -> None:
    """Skipped with its reason; where everything is required, that is a failure."""
    if os.environ.get("GUILDER_REQUIRE") == "all":
        lab.finding("not run", why)
    else:
        lab.note(f"not run: {why}")


async def _under_load(script: Script, lab: Lab, world: World, session: aiohttp.ClientSession, size: Size) -> None:
    stop = asyncio.Event()
    histories = [(History(lab.histories, number), History(lab.histories, number, "buyer")) for number in range(size.clients)]
    watching = asyncio.ensure_future(_watch(lab, stop))
    shoppers = [_shopper(lab, world, session, *pair, size) for pair in histories]
    working = [asyncio.ensure_future(shopper.work(stop)) for shopper in shoppers]
    try:
        await script(lab, world)
    finally:
        stop.set()
        results = await asyncio.gather(*working, watching, return_exceptions=True)
        for history in chain.from_iterable(histories):
            history.close()
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _shopper(lab: Lab, world: World, session: aiohttp.ClientSession, history: History, seen: History, size: Size) -> Shopper:
    client = Client(lab.system.ready["api"], session, history, Random(f"{lab.seed}.{history.client}"), until=float("inf"))
    buyer = Buyer(session, seen, world.purse, Random(f"{lab.seed}.{history.client}.buyer"))
    return Shopper(world, client, buyer, pause=size.pause, mostly=size.mostly)


async def _endpoints(lab: Lab, world: World, session: aiohttp.ClientSession) -> None:
    """The largest merchant and two others hear of everything."""
    for merchant in world.merchants[:3]:
        async with session.post(
            lab.system.ready["api"] + "/v1/webhook_endpoints",
            json={"url": f"http://127.0.0.1:{lab.receiver.port}/m{merchant.number}", "enabled_events": ["*"]},
            headers={"Authorization": f"Bearer {merchant.secret}"},
        ) as answer:  # fmt: skip
            made = await answer.json()
        lab.receiver.expect(f"m{merchant.number}", made["secret"])
        lab.endpoints[f"m{merchant.number}"] = (made["id"], merchant.secret)


async def _watch(lab: Lab, stop: asyncio.Event) -> None:
    """I5 in every snapshot: the books balance while they are being written."""
    while not stop.is_set():
        for row in await lab.system.rows(_TRIAL):
            lab.finding("I5", f"in a snapshot the trial balance of {row['currency']} is {row['posted']}, {row['pending']} pending")
        try:
            async with asyncio.timeout(SNAPSHOT_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue


def one_after_the_other(faults: Sequence[Fault], *, quiet: float = 1.0) -> Script:
    """Each fault once, with some quiet between them."""

    async def script(lab: Lab, _world: World) -> None:
        for fault in faults:
            say(f"  {fault.describe()}")
            await fault.suffer(lab)
            await asyncio.sleep(quiet * lab.scale)

    return script


def say(text: str) -> None:
    """A line for whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _verdict(lab: Lab, world: World | None, records: Records | None, folder: Path, began: float, *, kept: bool) -> Verdict:
    faults: dict[str, int] = {}
    for window in lab.windows:
        faults[window.kind] = faults.get(window.kind, 0) + 1
    verdict = Verdict(
        seed=lab.seed, seconds=round(time.monotonic() - began, 1), operations=world.done if world else 0,
        payments=len(records.shown) if records else 0, attempts=len(records.books.attempts) if records else 0, kills=lab.kills,
        failovers=lab.failovers, faults=faults, findings=lab.findings, notes=lab.notes,
    )  # fmt: skip
    if verdict.red or kept:
        verdict.kept = str(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return verdict


def show(verdict: Verdict) -> None:
    """The verdict, for people."""
    for note in verdict.notes:
        say(f"  note: {note}")
    for finding in verdict.findings[:40]:
        say(f"  RED: {finding}")
    if len(verdict.findings) > 40:
        say(f"  and {len(verdict.findings) - 40} more")
    faults = sum(verdict.faults.values())
    say(
        f"seed {verdict.seed}: {verdict.payments} payments, {verdict.attempts} attempts, {verdict.kills} kills, {faults} faults, "
        f"{verdict.failovers} failovers in {verdict.seconds:.0f} s: {len(verdict.findings)} violations"
        + (f"; kept in {verdict.kept}" if verdict.kept else ""),
    )  # fmt: skip

