"""Keeps the PostgreSQL server of one test run: started by the first test that needs it, ends when the run's process ends.

    python tests/keep_server.py FOLDER PID

A process of its own, so that it outlives the worker that started it and still goes away when the run is killed.
GUILDER_TEST_MIGRATIONS=0001,0003 runs only these files, while another one is being written.
"""

import asyncio
import json
import os
import select
import shutil
import sys
from pathlib import Path

from guilder.db.embedded import SUPERUSER, EmbeddedServer
from guilder.db.migrate import migrate
from guilder.db.schema import migrations

# Nothing of a test run is worth keeping, so nothing waits for the disk.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "128MB",
}


def main(folder: Path, run: int) -> None:
    """Start, migrate the template, say so in ready.json, wait for the end of the run, clean up."""
    watch = os.pidfd_open(run)
    server = EmbeddedServer(
        folder,
        socket_folder=folder / "run",
        password_file=folder / "passwords.json",
        log=folder / "postgres.log",
        settings=SETTINGS,
    )
    server.create()
    server.start()
    server.wait_until_ready()
    try:
        wanted = os.environ.get("GUILDER_TEST_MIGRATIONS")
        asyncio.run(migrate(server.dsn(), [file for file in migrations() if not wanted or file.revision in wanted.split(",")]))
        ready = folder / "ready.new"
        ready.write_text(
            json.dumps(
                {
                    "admin": server.dsn(database="postgres"),
                    "superuser": server.dsn(user=SUPERUSER, database="postgres"),
                    "template": "guilder",
                    "dsn": server.dsn(database="DATABASE"),
                }
            )
        )
        ready.rename(folder / "ready.json")
        select.select([watch], [], [])
    finally:
        server.stop(seconds=0.0)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
