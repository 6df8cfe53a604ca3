"""`guilder clock`: the sandbox's business time, which can be moved forward."""

import re
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from guilder.cli.options import Data, Json, load
from guilder.core.errors import GuilderError

if TYPE_CHECKING:
    from guilder.config import Settings

app = typer.Typer(help="Show business time, or move it forward.", invoke_without_command=True, rich_markup_mode=None)

# Microseconds. core.clock has them too, but brings asyncio with it, which would slow down every `guilder --help`.
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
UNITS: Final = {"s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": DAY, "w": 7 * DAY}
DURATION: Final = re.compile(r"(\d{1,6})([smhdw])")

# Every process looks at the clock each 0.1 s; one that has not confirmed after this long is stuck.
CONFIRM_SECONDS: Final = 10.0
# Ten years at once is a slip of the finger, and there is no way back.
ADVANCE_MAX: Final = 3_660 * DAY


class ClockNotMoved(GuilderError):
    """The clock could not be moved, or not everybody has followed; the message says which."""


@app.callback()
def show(context: typer.Context, data: Data = None, as_json: Json = False) -> None:
    """Show business time, or move it forward with `advance`."""
    if context.invoked_subcommand is None:
        from guilder import folder

        settings = load(data_dir=data)
        _write(settings, folder.read_offset(settings), as_json)


@app.command()
def advance(
    duration: Annotated[str, typer.Argument(help="How far, such as 7d, 36h, 1d12h, 90m.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Move business time forward; returns when every process has followed."""
    from guilder import folder

    settings = load(data_dir=data)
    micros = parse_duration(duration)
    if not settings.data_dir.is_dir():
        raise ClockNotMoved(f"there is no Guilder in {settings.data_dir}; name its folder with --data")
    _refuse_live_mode(settings)
    offset = folder.advance_clock(settings, micros)
    began = time.monotonic()
    while waiting := folder.unconfirmed(settings, offset):
        if time.monotonic() - began > CONFIRM_SECONDS:
            raise ClockNotMoved(f"the clock was moved, but these processes have not followed: {', '.join(map(str, waiting))}")
        time.sleep(0.01)
    _write(settings, offset, as_json)


def _refuse_live_mode(settings: "Settings") -> None:
    """Time is moved in the sandbox only. Raises ClockNotMoved where live mode is in use, and what the database does."""
    from guilder import bootstrap
    from guilder.cli.system import NoSystem, with_database
    from guilder.role import run_in_loop

    try:
        with with_database(settings) as found:
            live = run_in_loop(bootstrap.live_mode_in_use(found))
    except NoSystem:
        # Without a database there is nothing live either.
        return
    if live:
        raise ClockNotMoved(
            "live mode is in use here (`guilder keys list` shows the keys), and time moves in the sandbox only; "
            "try it in another folder, with --data"
        )


def parse_duration(text: str) -> int:
    """A duration such as 1d12h in microseconds. Raises ClockNotMoved."""
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ClockNotMoved(f"{text!r} is not a duration; write for example 7d, 36h, 1d12h or 90m")
    micros = sum(int(number) * UNITS[unit] for number, unit in parts)
    if not 0 < micros <= ADVANCE_MAX:
        raise ClockNotMoved("time moves forward only, by ten years at most")
    return micros


def _write(settings: "Settings", offset: int, as_json: bool) -> None:
    from datetime import UTC, datetime

    from guilder.cli.output import write_json
    from guilder.core.clock import SystemClock

    now = SystemClock(settings.clock_file).now() // SECOND
    if as_json:
        write_json({"now": now, "offset_seconds": offset // SECOND})
    else:
        ahead = f", {offset // SECOND:,} seconds ahead of real time" if offset else ", real time"
        typer.echo(f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC{ahead}")
