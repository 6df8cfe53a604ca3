"""`python -m guilder.network`: the sandbox bank world alone. Prints one JSON line when it is ready; SIGTERM ends it."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
import uvloop

from guilder.network.errors import NetworkError
from guilder.network.serve import Addresses, NetworkSettings, serve
from guilder.network.web import read_merchant


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bank world until SIGTERM or SIGINT; 1 when it cannot run, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m guilder.network", description="The sandbox bank world.")
    parser.add_argument("--data", type=Path, default=Path("guilder-network"), help="folder of the truth file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--iso-port", type=int, default=0, help="ISO 8583 over TCP; 0: any free port")
    parser.add_argument("--http-port", type=int, default=0, help="the control port; 0: any free port")
    parser.add_argument("--clock-file", type=Path, default=None, help="file with the offset of business time")
    parser.add_argument("--web-merchant", type=Path, default=None, help="JSON file: api_key, signing_secret, notify_url of the web PSP")
    chosen = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        settings = NetworkSettings(
            data=chosen.data,
            host=chosen.host,
            iso_port=chosen.iso_port,
            http_port=chosen.http_port,
            clock_file=chosen.clock_file,
            web=read_merchant(chosen.web_merchant) if chosen.web_merchant else None,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_told_to_stop(settings))
    except (NetworkError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _until_told_to_stop(settings: NetworkSettings) -> None:
    serving = asyncio.create_task(serve(settings, ready=_announce))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def _announce(addresses: Addresses) -> None:
    sys.stdout.write(msgspec.json.encode(addresses).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
