"""`guilder demo`: the whole system once, with real processes and real payments, and everything proved at the end."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from guilder.cli.options import Json
from guilder.core.errors import GuilderError

if TYPE_CHECKING:
    import subprocess

    from guilder.cli.demo_report import Kept, Merchant, Outcome, Progress
    from guilder.config import Settings
    from guilder.demo.inbox import Inbox
    from guilder.demo.model import Done, Stage

# `guilder up` is ready within five seconds; a machine that is busy with other things may take longer.
START_SECONDS: Final = 60.0
# It stops within five seconds.
STOP_SECONDS: Final = 15.0
LOG_TAIL: Final = 2_000
SHOP_NAME: Final = "Demo shop"
NO_STRIPE: Final = "the demo pays with the official stripe package, which is not installed: pip install 'guilder[demo]'"


class NotStarted(GuilderError):
    """The system did not come up; the message says what it said."""


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the system running, and say where and how to stop it.")] = False,
    as_json: Json = False,
) -> None:
    """Start everything on temporary data, take real payments, and prove the books."""
    import importlib.util
    import shutil
    import tempfile

    from guilder.cli.demo_report import show
    from guilder.cli.output import fail

    if importlib.util.find_spec("stripe") is None:
        fail(NO_STRIPE, as_json=as_json)
    place = Path(tempfile.mkdtemp(prefix="guilder-demo-"))
    try:
        outcome = _run(place, keep=keep, quiet=as_json)
    except KeyboardInterrupt:
        shutil.rmtree(place, ignore_errors=True)
        raise
    show(outcome, as_json=as_json)
    if not outcome.well:
        fail(f"not everything was as it should be; what the demo left is in {place}", as_json=False)
    if not keep:
        shutil.rmtree(place, ignore_errors=True)


def _run(place: Path, *, keep: bool, quiet: bool) -> "Outcome":
    """Start, pay, prove, stop."""
    import time

    from guilder.cli import check
    from guilder.cli.demo_report import Outcome, meter
    from guilder.config import Settings
    from guilder.demo.inbox import inbox
    from guilder.demo.scenario import acts

    began = time.monotonic()
    settings = Settings.load({}, {"data_dir": place / "data"})
    stopped = True
    with inbox() as letters, _system(place, settings, keep=keep) as process:
        with meter(len(acts()) + 2, quiet=quiet) as progress:
            progress("Starting the system", 0)
            api = _wait_until_ready(process, place)
            progress("Making a merchant", 1)
            merchant = _merchant(settings)
            stage = _stage(settings, api, merchant, letters)
            endpoint, letters.secret = stage.shop.subscribe(letters.url)
            done = _play(stage, progress)
            # A system that is kept running would go on calling an inbox that has gone.
            stage.shop.unsubscribe(endpoint)
            progress("Proving the books", 1)
            results = check.results(settings, None, quiet=True)
        outcome = Outcome(
            done=done, results=results, balance=stage.shop.balance(), trial_balance=stage.shop.trial_balance(), merchant=merchant,
            seconds=time.monotonic() - began, kept=_kept(settings, api, process.pid) if keep else None, stopped=stopped,
        )  # fmt: skip
    if not keep:
        import msgspec

        outcome = msgspec.structs.replace(outcome, stopped=process.returncode == 0, seconds=time.monotonic() - began)
    return outcome


@contextmanager
def _system(place: Path, settings: "Settings", *, keep: bool) -> "Iterator[subprocess.Popen[bytes]]":
    """`guilder up` on fresh data, as anybody starts it; stopped at the end unless it is to be kept and all went well."""
    import subprocess

    # Nobody else's settings: the demo must not touch a database that somebody has named for something else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GUILDER_")}
    command = [sys.executable, "-m", "guilder", "up", "--json", "--port", "0", "--data", str(settings.data_dir)]
    with (place / "up.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True,
            # There is no second thread yet, which makes the hook safe.
            preexec_fn=None if keep else _end_with_parent(os.getpid()),  # noqa: PLW1509
        )  # fmt: skip
    try:
        yield process
    except BaseException:
        _stop(process)
        raise
    if not keep:
        _stop(process)


def _end_with_parent(parent: int) -> Callable[[], None]:
    """What a child runs first, so that it stops in good order when the demo is killed."""
    import signal

    from guilder.db.launcher import die_with

    return lambda: die_with(parent, signal.SIGTERM)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    import subprocess

    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", place: Path) -> str:
    """The API's address, from the ready line. Raises NotStarted with what the system said."""
    import json
    import select

    output = process.stdout
    line = b""
    if output is not None and select.select([output], [], [], START_SECONDS)[0]:
        line = output.readline()
    try:
        ready = json.loads(line)
    except ValueError:
        ready = {}
    if not ready.get("ready"):
        said = (place / "up.log").read_text(errors="replace")[-LOG_TAIL:].strip()
        raise NotStarted(f"the system did not start: {ready.get('error') or said or 'it said nothing'}; its logs are in {place}")
    return str(ready["api"])


def _merchant(settings: "Settings") -> "Merchant":
    """A merchant of the demo's own, with its keys."""
    from guilder import bootstrap
    from guilder.cli.demo_report import Merchant
    from guilder.cli.system import with_database
    from guilder.role import run_in_loop

    async def make(found: "Settings") -> Merchant:
        async with bootstrap.merchants(found) as merchants:
            made = await merchants.create(name=SHOP_NAME)
            _, secret = await merchants.create_key(made.id, livemode=False, kind="secret")
            _, publishable = await merchants.create_key(made.id, livemode=False, kind="publishable")
            return Merchant(id=made.id, name=made.name, secret_key=secret.reveal(), publishable_key=publishable.reveal())

    with with_database(settings) as found:
        return run_in_loop(make(found))


def _stage(settings: "Settings", api: str, merchant: "Merchant", letters: "Inbox") -> "Stage":
    from guilder.demo.bank import Bank
    from guilder.demo.model import Stage
    from guilder.demo.shop import Shop

    return Stage(Shop(api, merchant.secret_key), Bank(_control(settings)), letters)


def _control(settings: "Settings") -> str:
    from guilder import folder

    running = folder.read_running(settings)
    if running is None or running.network_control is None:
        raise NotStarted(f"{settings.run_file} does not say where the bank world is")
    return running.network_control


def _play(stage: "Stage", progress: "Progress") -> "list[Done]":
    from guilder.demo.scenario import play

    done = []
    for one in play(stage, lambda act: progress(f"{act.group}: {act.what}", 0)):
        done.append(one)
        progress(None, 1)
    return done


def _kept(settings: "Settings", api: str, pid: int) -> "Kept":
    from guilder.cli.demo_report import Kept

    return Kept(api=api, network_control=_control(settings), data=str(settings.data_dir), pid=pid)
