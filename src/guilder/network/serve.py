"""The bank world as a process: memory rebuilt, both ports open, housekeeping, an orderly end."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from guilder.core.clock import Clock, SystemClock
from guilder.network.acquirer import Acquirer
from guilder.network.control import Control
from guilder.network.faults import Faults
from guilder.network.truth_file import TruthFile
from guilder.network.web import WEB, Desk, WebMerchant
from guilder.network.world import World

# How often refunds are moved on and old operations looked for. Half a second of real time is below what a person
# waiting for `guilder clock advance` to show its effects notices.
HOUSEKEEPING_SECONDS: Final = 0.5


class NetworkSettings(Struct, frozen=True, kw_only=True):
    """Where the bank world lives and listens. Port 0: any free one. A given listening socket takes the port's place.

    `data` is a folder of its own. `clock_file` holds the offset of business time (DATA/clock); None: real time. `pages` is
    where buyers reach the issuers' challenge pages; None: at the HTTP port.
    """

    data: Path
    host: str = "127.0.0.1"
    iso_port: int = 0
    http_port: int = 0
    clock_file: Path | None = None
    iso_listener: socket.socket | None = None
    http_listener: socket.socket | None = None
    pages: str | None = None
    web: WebMerchant | None = None


class Addresses(Struct, frozen=True):
    """Where the bank world listens."""

    host: str
    iso_port: int
    http_port: int


async def serve(
    settings: NetworkSettings, *, ready: Callable[[Addresses], None] | None = None, clock: Clock | None = None
) -> None:
    """Run until cancelled; `ready` is called once, when both ports answer.

    Killed at any moment it comes back with what anybody has heard of. Raises TruthInUse and TruthUnreadable at the
    start, TruthNotDurable when the disk fails (not when it is full: then it waits).
    """
    clock = clock or SystemClock(settings.clock_file)
    truth = TruthFile.open(settings.data)
    try:
        world = World(truth, clock)
        world.recover(secrets.token_bytes)
        truth.sync()
        faults = Faults()
        acquirer = Acquirer(world, faults)
        desk = Desk(world, faults, clock, acquirer.then, settings.web) if settings.web else None
        control = Control(world, faults, clock, {WEB: desk.answer} if desk else {})
        try:
            http_port = await control.listen(settings.host, settings.http_port, settings.http_listener)
            world.pages = settings.pages or f"http://{settings.host}:{http_port}"
            iso_port = await acquirer.listen(settings.host, settings.iso_port, settings.iso_listener)
            addresses = Addresses(settings.host, iso_port, http_port)
            if ready:
                ready(addresses)
            await _run(world, acquirer)
        finally:
            control.close()
            if desk:
                desk.close()
            acquirer.close()
    finally:
        truth.close()


async def _run(world: World, acquirer: Acquirer) -> None:
    """Keep house until the truth can no longer be kept, or for ever."""
    while not acquirer.failed.done():
        world.keep_house()
        acquirer.plan_flush()
        await asyncio.wait({acquirer.failed}, timeout=HOUSEKEEPING_SECONDS)
    acquirer.failed.result()
