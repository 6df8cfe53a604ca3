"""`guilder keys`: API keys of merchants. A secret is shown once, when it is made."""

from typing import TYPE_CHECKING, Annotated

import typer

from guilder.cli.options import Account, Data, Json, load
from guilder.cli.system import with_merchants

if TYPE_CHECKING:
    from guilder.config import Settings
    from guilder.merchants import ApiKey, KeyKind

app = typer.Typer(help="List, make and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_keys(account: Account = None, data: Data = None, as_json: Json = False) -> None:
    """List the API keys of a merchant, without their secrets."""
    from guilder.cli.output import write_json, write_table

    found = with_merchants(load(data_dir=data), account, lambda merchants, id_: merchants.list_keys(id_))
    if as_json:
        write_json({"keys": list(found)})
        return
    rows = [(key.id, _mode(key), key.kind, f"...{key.last4}", "revoked" if key.revoked else "works") for key in found]
    write_table("API keys", ["id", "mode", "kind", "ends in", "state"], rows)


@app.command()
def create(
    account: Account = None,
    live: Annotated[bool, typer.Option("--live", help="A key for live payments instead of test ones.")] = False,
    publishable: Annotated[bool, typer.Option("--publishable", help="A publishable key instead of a secret one.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make an API key and show it, this once."""
    from guilder.cli.output import write_json, write_lines

    kind: KeyKind = "publishable" if publishable else "secret"
    settings = load(data_dir=data)
    if live:
        _refuse_keys_beside_their_data(settings)
        _refuse_moved_clock(settings)
    key, secret = with_merchants(
        settings,
        account,
        lambda merchants, id_: merchants.create_key(id_, livemode=live, kind=kind),
    )
    if as_json:
        write_json({"key": key, "secret": secret.reveal()})
        return
    write_lines([("id", key.id), ("mode", _mode(key)), ("kind", key.kind), ("key", secret.reveal())])
    typer.echo("\nKeep it now: it is not shown again.")


def _refuse_keys_beside_their_data(settings: "Settings") -> None:
    """Live mode wants the key files elsewhere: whoever copies the data folder must not have the keys to it."""
    for variable, file in (("GUILDER_MASTER_KEY_FILE", settings.master_key_file), ("GUILDER_APP_KEY_FILE", settings.app_key_file)):
        if file.resolve().is_relative_to(settings.data_dir.resolve()):
            typer.echo(
                f"Live keys need the key files outside of the data folder, and {file.name} lies inside it. Stop the system, move the "
                f"file to a place that is backed up apart, and set {variable} to its path.", err=True,
            )
            raise typer.Exit(1)


def _refuse_moved_clock(settings: "Settings") -> None:
    """Live payments are dated by real time, and a clock that was moved cannot be moved back."""
    from guilder import folder

    if folder.read_offset(settings):
        typer.echo(
            "Live keys need real time, and business time was moved forward here by `guilder clock advance`. "
            "Use a data folder and a database of its own for live mode.", err=True,
        )
        raise typer.Exit(1)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, from `guilder keys list`.")],
    account: Account = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Stop an API key from working, everywhere within a second. Safe to repeat."""
    from guilder.cli.output import write_json

    revoked = with_merchants(load(data_dir=data), account, lambda merchants, id_: merchants.revoke_key(id_, key))
    if as_json:
        write_json({"key": revoked})
    else:
        typer.echo(f"{revoked.id} is revoked")


def _mode(key: "ApiKey") -> str:
    return "live" if key.livemode else "test"
