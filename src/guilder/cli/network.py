"""`guilder network`: the sandbox bank world alone, for whoever has a payment system of their own to test."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from guilder.cli.options import Json

if TYPE_CHECKING:
    from guilder.network import Addresses, NetworkSettings

# Those that it has beside `guilder up` on its usual port.
HTTP_PORT: Final = 8423
ISO_PORT: Final = 8424


def network(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Where it keeps its truth.")] = Path("guilder-network"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    iso_port: Annotated[int, typer.Option(min=0, max=65_535, help="ISO 8583 over TCP; 0: any free port.")] = ISO_PORT,
    http_port: Annotated[int, typer.Option(min=0, max=65_535, help="The control port; 0: any free port.")] = HTTP_PORT,
    *,
    web_merchant: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The web PSP's merchant, as JSON (docs/webpsp.md); without it there is none."),
    ] = None,
    clock_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Holds the offset of business time.")] = None,
    as_json: Json = False,
) -> None:
    """Run the sandbox bank world alone (acquirer, scheme, issuers), and stay."""
    from guilder.cli.output import fail, write_json
    from guilder.network import NetworkSettings, read_merchant
    from guilder.network.errors import NetworkError
    from guilder.role import configure_log, run_in_loop

    configure_log("network")

    def ready(addresses: "Addresses") -> None:
        if as_json:
            write_json({"ready": True, **_named(addresses)})
        else:
            _show(addresses, data)

    try:
        web = read_merchant(web_merchant) if web_merchant is not None else None
        settings = NetworkSettings(data=data, host=host, iso_port=iso_port, http_port=http_port, clock_file=clock_file, web=web)
        run_in_loop(_until_told(settings, ready))
    except (NetworkError, OSError) as error:
        fail(str(error), as_json=as_json)


async def _until_told(settings: "NetworkSettings", ready: "Callable[[Addresses], None]") -> None:
    """Serve until SIGTERM or SIGINT."""
    import asyncio

    from guilder.network import serve

    serving = asyncio.ensure_future(serve(settings, ready=ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving


def _named(addresses: "Addresses") -> dict[str, str]:
    host = f"[{addresses.host}]" if ":" in addresses.host else addresses.host
    return {"iso8583": f"{host}:{addresses.iso_port}", "control": f"http://{host}:{addresses.http_port}"}


def _show(addresses: "Addresses", data: Path) -> None:
    from guilder.cli.output import write_lines

    named = _named(addresses)
    fault = '{"kind": "lost_answer", "operation": "purchase", "count": 1}'
    sys.stdout.write("\nThe bank world is ready. Ctrl-C stops it.\n\n")
    write_lines(
        [
            ("ISO 8583", f"{named['iso8583']} (docs/iso8583.md)"),
            ("Control", named["control"]),
            ("Truth", f"curl {named['control']}/truth"),
            ("Faults", f"curl {named['control']}/faults -d '{fault}'"),
            ("Data", data),
        ]
    )
