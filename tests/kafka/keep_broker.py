"""Keeps the Kafka broker of one test run: started by the first test that needs it, ends when the run's process ends.

    python tests/kafka/keep_broker.py FOLDER PID
"""

import os
import select
import shutil
import sys
from pathlib import Path

import brokers


def main(folder: Path, run: int) -> None:
    """Start, say where in `bootstrap`, wait for the end of the run, clean up. What did not start leaves its log there."""
    if not brokers.can_run():
        return
    watch = os.pidfd_open(run)
    cluster = brokers.Cluster(folder / "cluster")
    try:
        cluster.start()
        draft = folder / "bootstrap.new"
        draft.write_text(cluster.bootstrap)
        draft.rename(folder / "bootstrap")
        select.select([watch], [], [])
    finally:
        cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
