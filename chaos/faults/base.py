"""What a fault is."""

import asyncio
import time
from typing import ClassVar

from chaos.lab import Lab, Window


class Fault:
    """One thing that goes wrong for a while.

    Attributes:
        kind: its letter and number.
        lasts: how long it is in force, by the name of a duration.
        down: the part that is away meanwhile, for the availability of the others; empty where it is none.
    """

    kind: ClassVar[str]
    lasts: ClassVar[str] = "trouble"
    down: ClassVar[str] = ""

    def describe(self) -> str:
        """What is done, in a line."""
        return (type(self).__doc__ or "").partition("\n")[0]

    async def inject(self, lab: Lab) -> None:
        """Break it."""
        raise NotImplementedError

    async def heal(self, lab: Lab) -> None:
        """Put it right; returns when what was broken is back."""

    async def suffer(self, lab: Lab) -> None:
        """Inject, wait, heal, with the window written down. Heals whatever happens."""
        window: Window = lab.begin(self.describe(), self.kind, self.down)
        try:
            await self.inject(lab)
            await asyncio.sleep(lab.seconds(self.lasts))
        finally:
            await self.heal(lab)
            window.ended = time.monotonic_ns()
