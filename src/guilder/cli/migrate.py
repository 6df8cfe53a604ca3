"""`guilder migrate`: bring the database to the schema of this version."""

from guilder.cli.options import Data, Json, load


def migrate(data: Data = None, as_json: Json = False) -> None:
    """Bring the database to the schema of this version. Safe to repeat."""
    from guilder.cli.output import write_json  # noqa: PLC0415
    from guilder.cli.system import with_database  # noqa: PLC0415
    from guilder.db.migrate import migrate_now  # noqa: PLC0415

    with with_database(load(data_dir=data), create=True) as settings:
        ran = migrate_now(str(settings.database_url))
    if as_json:
        write_json({"migrated": ran})
    elif ran:
        print("\n".join(f"ran {name}" for name in ran))
    else:
        print("nothing to do: the database is up to date")
