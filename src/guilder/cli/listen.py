"""`guilder listen`: events as they happen, shown, or forwarded to a receiver that is being built."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.webhooks.forward import Forwarded


def listen(
    forward_to: Annotated[
        str | None,
        typer.Option("--forward-to", metavar="URL", help="Where events go, such as localhost:4242/webhook, or 4242. Else they are shown."),
    ] = None,
    events: Annotated[
        str | None, typer.Option("--events", metavar="TYPES", help="Only these types, separated by commas; a * stands for anything."),
    ] = None,
    headers: Annotated[
        list[str] | None,
        typer.Option("--headers", "-H", metavar="'KEY: VALUE'", help="A header that is sent beside ours. May be given again."),
    ] = None,
    skip_verify: Annotated[
        bool, typer.Option("--skip-verify", help="Forward to https:// whatever the certificate there is."),
    ] = False,
    print_secret: Annotated[bool, typer.Option("--print-secret", help="Print the signing secret, and end.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show the sandbox merchant's events as they happen, or forward them, signed, to an address of yours. Ctrl-C ends it.

    With --json one object a line: what became of each event that was forwarded, or the event itself.
    """
    from contextlib import suppress

    import msgspec

    from guilder import folder
    from guilder.cli.output import write_json
    from guilder.cli.system import NoSystem
    from guilder.cli.types import chosen_types
    from guilder.core.clock import SystemClock
    from guilder.role import run_in_loop
    from guilder.security import PurposeKeys, Signer, webhook_secret
    from guilder.webhooks.forward import Forwarder, extra_headers, target_url
    from guilder.webhooks.listen import KeyRefused, Listening

    settings = load(data_dir=data)
    url = None if forward_to is None else target_url(forward_to)
    extra = extra_headers(headers or ())
    types = chosen_types([one.strip() for one in events.split(",") if one.strip()] if events else ())
    running, sandbox = folder.read_running(settings), folder.read_sandbox(settings)
    if sandbox is None or not (print_secret or (running is not None and folder.is_alive(settings))):
        raise NoSystem(f"nothing runs in {settings.data_dir}; start it with `guilder up`, or name its folder with --data")
    secret = webhook_secret(PurposeKeys.of_file(settings.app_key_file).listen_secret(sandbox.account, livemode=False))
    if print_secret:
        if as_json:
            write_json({"secret": secret.reveal()})
        else:
            typer.echo(secret.reveal())
        return
    teller = _Teller(url, as_json=as_json)
    signer, clock = Signer([secret]), SystemClock()
    listening = Listening(
        api=settings.api_url if running is None else msgspec.structs.replace(settings, ports=running.ports).api_url,
        key=sandbox.secret_key, types=types,
        forwarder=None if url is None else Forwarder(url=url, headers=extra, verify=not skip_verify, signer=signer, clock=clock),
        got=teller.got, forwarded=teller.forwarded, away=teller.away, back=teller.back,
    )  # fmt: skip
    try:
        with suppress(KeyboardInterrupt):
            run_in_loop(listening.run(lambda: teller.ready(secret.reveal())))
    except KeyRefused as error:
        raise NoSystem(
            f"{error} The sandbox merchant's secret key in {settings.sandbox_file} was revoked, or is another database's. Stop "
            "`guilder up` and start it again: it makes a sandbox merchant with new keys. Then listen again."
        ) from error


class _Teller:
    """Says what comes and what goes, a line each."""

    def __init__(self, url: str | None, *, as_json: bool) -> None:
        self._url = url
        self._as_json = as_json

    def ready(self, secret: str) -> None:
        """Everything that happens from now on is told."""
        if self._as_json:
            # Nothing is signed where nothing is forwarded, and what is shown is often kept.
            self._write({"ready": True, "forward_to": self._url} | ({"secret": secret} if self._url else {}))
        elif self._url is None:
            self._say("Ready. Events are shown as they happen; --forward-to sends them to a receiver (Ctrl-C ends it)")
        else:
            self._say(f"Ready. Your webhook signing secret is {secret} (Ctrl-C ends it)")

    def got(self, event: dict[str, Any]) -> None:
        """An event is there, or on its way."""
        if not self._as_json:
            self._say(f"  -->  {event['type']} [{event['id']}]")
        elif self._url is None:
            self._write(event)

    def forwarded(self, one: "Forwarded") -> None:
        """Its answer has come, or none."""
        if self._as_json:
            self._write(one)
        else:
            self._say(f"  <--  [{one.status or 'ERROR'}] POST {self._url} [{one.event}]{f' {one.failure}' if one.failure else ''}")

    def away(self, reason: str) -> None:
        """The system has gone away."""
        if self._as_json:
            self._write({"connected": False, "reason": reason})
        else:
            done = "shown" if self._url is None else "forwarded"
            self._say(f"The system does not answer ({reason}). What happens meanwhile is {done} when it is back.")

    def back(self) -> None:
        """It is back."""
        if self._as_json:
            self._write({"connected": True})
        else:
            self._say("The system is back.")

    @staticmethod
    def _write(content: object) -> None:
        from guilder.cli.output import write_json

        write_json(content)

    @staticmethod
    def _say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
