"""The harness's own client: asks while a fault is in force, so that something is asked just then. Its lines are judged as anybody's."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Final

import aiohttp
from msgspec import Struct

from chaos.client import Client, Request
from chaos.history import History
from chaos.lab import Lab
from chaos.workload import LISTED

# Beyond those of a run, each with a file of its own.
_numbers = count(500)
LOOK_SECONDS: Final = 0.05
ASK_SECONDS: Final = 60.0


class Read(Struct, frozen=True):
    """A list that was asked for: when it was answered (CLOCK_MONOTONIC), after how long, and by how much it said to be old."""

    at: float
    took: float
    age: float | None


@asynccontextmanager
async def own_client(lab: Lab) -> AsyncIterator[Client]:
    """A client that repeats for a minute."""
    history = History(lab.histories, next(_numbers))
    try:
        async with aiohttp.ClientSession() as session:
            chance = Random(f"{lab.seed}.{history.client}")
            yield Client(lab.system.ready["api"], session, history, chance, until=time.monotonic() + ASK_SECONDS)
    finally:
        history.close()


@asynccontextmanager
async def reading(lab: Lab) -> AsyncIterator[list[Read]]:
    """Ask for the largest merchant's newest payments all the while; each list must be answered. What came is in the list handed out."""
    reads: list[Read] = []
    stop = asyncio.Event()
    async with own_client(lab) as client:
        task = asyncio.ensure_future(_read(lab, client, stop.is_set, reads.append))
        try:
            yield reads
        finally:
            stop.set()
            await task


async def _read(lab: Lab, client: Client, stopped: Callable[[], bool], keep: Callable[[Read], None]) -> None:
    while not stopped():
        began = time.monotonic()
        answer = await client.once(Request("list", lab.merchants[0], "GET", LISTED))
        if answer is None or answer.status != 200:
            lab.finding("replica", f"a list was answered {answer.status if answer else 'not at all'}")
            return
        keep(Read(time.monotonic(), time.monotonic() - began, answer.age))
        await asyncio.sleep(LOOK_SECONDS)
