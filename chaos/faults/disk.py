"""D1 and G8: no room left on the file system that holds data, WAL, logs and the bank world's memory."""

import asyncio
from pathlib import Path

from chaos.faults.base import Fault
from chaos.lab import Lab

TIMES = 8


class FullDisk(Fault):
    """D1, G8: the disk is filled up to its last byte again and again, and then there is room."""

    kind = "G8"

    async def inject(self, lab: Lab) -> None:
        for _ in range(TIMES):
            await asyncio.to_thread(_fill, lab.system.data / "fill")
            await asyncio.sleep(lab.seconds("step") / 2)

    async def heal(self, lab: Lab) -> None:
        (lab.system.data / "fill").unlink(missing_ok=True)


def _fill(file: Path) -> None:
    """Take every byte that is left."""
    with file.open("ab", buffering=0) as sink:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    sink.write(b"x" * size)
            except OSError:
                continue
