"""`guilder listen`: events forwarded to a receiver that is being built."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.webhooks.listen import Forwarded


def listen(
    forward_to: Annotated[str, typer.Option("--forward-to", metavar="URL", help="Where events go, such as localhost:4242/webhook.")],
    events: Annotated[
        str | None, typer.Option("--events", metavar="TYPES", help="Only these types, separated by commas; a * stands for anything."),
    ] = None,
    print_secret: Annotated[bool, typer.Option("--print-secret", help="Print the signing secret, and end.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Forward the sandbox merchant's events to an address of yours, signed, as they happen. Ctrl-C ends it."""
    from contextlib import suppress

    import msgspec

    from guilder import folder
    from guilder.cli.output import write_json
    from guilder.cli.system import NoSystem
    from guilder.core.clock import SystemClock
    from guilder.role import run_in_loop
    from guilder.security import PurposeKeys, Signer, webhook_secret
    from guilder.webhooks.listen import Listening

    settings = load(data_dir=data)
    running, sandbox = folder.read_running(settings), folder.read_sandbox(settings)
    if running is None or sandbox is None or not folder.is_alive(settings):
        raise NoSystem(f"nothing runs in {settings.data_dir}; start it with `guilder up`, or name its folder with --data")
    secret = webhook_secret(PurposeKeys.of_file(settings.app_key_file).listen_secret(sandbox.account, livemode=False))
    if print_secret:
        typer.echo(secret.reveal())
        return
    url = forward_to if "://" in forward_to else f"http://{forward_to}"
    teller = _Teller(url, as_json=as_json)
    listening = Listening(
        api=msgspec.structs.replace(settings, ports=running.ports).api_url, key=sandbox.secret_key, url=url,
        types=[one.strip() for one in events.split(",")] if events else (), signer=Signer([secret]), clock=SystemClock(),
        got=teller.got, forwarded=teller.forwarded, reached=teller.reached,
    )  # fmt: skip

    def ready() -> None:
        if as_json:
            write_json({"ready": True, "secret": secret.reveal(), "forward_to": url})
        else:
            typer.echo(f"Ready. Your webhook signing secret is {secret.reveal()} (Ctrl-C ends it)")

    with suppress(KeyboardInterrupt):
        run_in_loop(listening.run(ready))


class _Teller:
    """Says what comes and what goes, a line each."""

    def __init__(self, url: str, *, as_json: bool) -> None:
        self._url = url
        self._as_json = as_json

    def got(self, event: str, type_: str) -> None:
        """An event is on its way."""
        if not self._as_json:
            self._say(f"  -->  {type_} [{event}]")

    def forwarded(self, one: "Forwarded") -> None:
        """Its answer has come, or none."""
        from guilder.cli.output import write_json

        if self._as_json:
            write_json(one)
        else:
            self._say(f"  <--  [{one.status or 'ERROR'}] POST {self._url} [{one.event}]{f' {one.failure}' if one.failure else ''}")

    def reached(self, there: bool) -> None:  # noqa: FBT001 - a callback of one value
        """The system has gone away, or is back."""
        from guilder.cli.output import write_json

        if self._as_json:
            write_json({"connected": there})
        else:
            self._say("The system is back." if there else "The system does not answer. What happens meanwhile is forwarded later.")

    @staticmethod
    def _say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
