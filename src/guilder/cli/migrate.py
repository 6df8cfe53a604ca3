"""`guilder migrate`: bring the database to the schema of this version."""

import typer

from guilder.cli.options import Data, Json, load


def migrate(data: Data = None, as_json: Json = False) -> None:
    """Bring the database to the schema of this version. Safe to repeat."""
    from guilder.cli.output import write_json
    from guilder.cli.system import with_database
    from guilder.db.migrate import migrate_now

    with with_database(load(data_dir=data), create=True) as settings:
        ran = migrate_now(str(settings.database_url))
    if as_json:
        write_json({"migrated": ran})
    elif ran:
        typer.echo("\n".join(f"ran {name}" for name in ran))
    else:
        typer.echo("nothing to do: the database is up to date")
