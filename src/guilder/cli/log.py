"""`guilder log`: where the log's consumers stand, from where they read, and Kafka's copy of it."""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from guilder.cli.options import Data, Json, load

if TYPE_CHECKING:
    from guilder.config import KafkaSettings, Settings
    from guilder.core.ids import Ids
    from guilder.db import Database

app = typer.Typer(help="Show, rebuild and move the log.", no_args_is_help=True, rich_markup_mode=None)
Result = TypeVar("Result")


class Target(Enum):
    """What consumers can read."""

    KAFKA = "kafka"
    POSTGRES = "postgres"


@app.command()
def status(data: Data = None, as_json: Json = False) -> None:
    """Show how far each consumer is, and from where it reads."""
    from guilder.cli.output import write_json, write_lines, write_table
    from guilder.log.manage import standings

    settings, found = _with_database(data, lambda db, _ids, _settings: standings(db))
    cluster = _cluster(settings.kafka)
    if as_json:
        write_json({"consumers": found, "kafka": cluster, "outbox_max": settings.outbox_max})
        return
    rows = [
        (one.consumer, "Kafka's copy" if one.is_relay else _reads(one.logs, settings.kafka), one.behind, one.processes, one.unread)
        for one in found
    ]
    write_table("Log", ["consumer", "reads", "behind by", "processes", "unread partitions"], rows)
    write_lines([("Kafka", cluster or "not in use (GUILDER_KAFKA_BOOTSTRAP is not set)"), ("Accepts until behind by", settings.outbox_max)])


@app.command()
def move(
    to: Annotated[Target, typer.Option("--to", help="From where consumers are to read.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Have all consumers read from Kafka, or from PostgreSQL's outbox, without a stop. Safe to repeat."""
    from guilder.cli.output import write_json
    from guilder.log.manage import move_to

    def work(db: "Database", _ids: "Ids", settings: "Settings") -> Awaitable[int]:
        if to is Target.KAFKA:
            _needed(settings)
        return move_to(db, to.value)

    _settings, moved = _with_database(data, work)
    if as_json:
        write_json({"log": to.value, "partitions_moved": moved})
    else:
        typer.echo(f"consumers read from {'Kafka' if to is Target.KAFKA else 'the outbox'}; {moved} partitions moved")


@app.command()
def rebuild(data: Data = None, as_json: Json = False) -> None:
    """Make missing topics, and have all that the outbox keeps published again. Nothing is handled twice. Safe to repeat."""
    from guilder.cli.output import write_json
    from guilder.log.manage import copy_again

    async def work(db: "Database", ids: "Ids", settings: "Settings") -> int:
        from guilder.log.kafka.client import ensure_topics
        from guilder.log.kafka.relay import begin_copying

        await ensure_topics(_needed(settings))
        await begin_copying(db, ids)
        return await copy_again(db, ids)

    _settings, count = _with_database(data, work)
    if as_json:
        write_json({"entries_to_publish": count})
    else:
        typer.echo(f"{count} entries are published again by the relay of a running system; `guilder log status` shows how far it is")


def _needed(settings: "Settings") -> "KafkaSettings":
    from guilder.config import WrongSetting

    if settings.kafka is None:
        raise WrongSetting("set GUILDER_KAFKA_BOOTSTRAP, as the system's processes have it")
    return settings.kafka


def _reads(logs: Sequence[str], kafka: "KafkaSettings | None") -> str:
    if kafka is None:
        return "outbox"
    return " and ".join("Kafka" if one == "kafka" else "outbox" for one in logs)


def _cluster(kafka: "KafkaSettings | None") -> str | None:
    """The cluster in a few words; None where none is in use."""
    if kafka is None:
        return None
    import asyncio

    from guilder.core.errors import Unavailable
    from guilder.log.kafka.client import describe_topics

    try:
        return asyncio.run(describe_topics(kafka))
    except Unavailable as error:
        return f"does not answer ({error}); consumers read the outbox"


def _with_database(
    data: Data, work: "Callable[[Database, Ids, Settings], Awaitable[Result]]",
) -> "tuple[Settings, Result]":
    """Do something with the database of the system that the flags name."""
    from guilder.cli.system import with_database
    from guilder.core.clock import SystemClock
    from guilder.core.ids import Ids
    from guilder.db import Database
    from guilder.role import run_in_loop
    from guilder.rooms import APP_ROLE, address

    with with_database(load(data_dir=data)) as settings:

        async def do() -> Result:
            db = await Database.connect(address(settings), role=APP_ROLE, max_size=1, name="log")
            try:
                return await work(db, Ids(SystemClock(settings.clock_file)), settings)
            finally:
                await db.close()

        return settings, run_in_loop(do())
