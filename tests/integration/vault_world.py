"""A vault on its own socket for a test, with the means to stop and start it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from guilder.core.clock import ManualClock
from guilder.core.ids import Ids
from guilder.db import Database
from guilder.security import FileKeyProvider, Pan, Secret, make_key_file
from guilder.vault import CardEntry, Reveal, Vault, VaultClient, VaultServer, listen

VISA = "4242424242424242"


class VaultWorld:
    """A vault on its own socket, with the means to stop and start it."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.path = folder / "vault.sock"
        self.key_file = folder / "master.key"
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.api = VaultClient(self.path)
        self.executor = VaultClient(self.path, may_reveal=True)
        self.db: Database | None = None
        self.server: VaultServer | None = None
        make_key_file(self.key_file)

    async def start(self) -> None:
        """Serve; a second time with an empty memory."""
        self.db = await Database.connect(self.dsn, role="guilder_vault", max_size=2, hot=True, name="vault")
        vault = Vault(self.db, FileKeyProvider(self.key_file), self.clock)
        self.server = VaultServer(vault, listen(self.path))
        await self.server.start()

    async def stop(self) -> None:
        """Stop serving, as a process that ends."""
        if self.server is not None and self.db is not None:
            await self.server.close()
            await self.db.close()
        self.server = None

    def entry(
        self,
        number: str = VISA,
        *,
        account: str = "acct_1",
        livemode: bool = False,
        cvc: str | None = None,
        postal: str | None = None,
    ) -> CardEntry:
        """A card under a fresh PaymentMethod id."""
        return CardEntry(
            account=account, livemode=livemode, payment_method_id=self.ids.new("pm"), number=Pan(number), exp_month=12,
            exp_year=34, cvc=None if cvc is None else Secret(cvc), postal_code=postal,
        )  # fmt: skip


@asynccontextmanager
async def vault_world(dsn: str, folder: Path) -> AsyncIterator[VaultWorld]:
    """A vault that serves until the block ends."""
    world = VaultWorld(dsn, folder)
    await world.start()
    try:
        yield world
    finally:
        await world.api.close()
        await world.executor.close()
        await world.stop()


def reveal(
    entry: CardEntry, *, with_cvc: bool = False, account: str | None = None, livemode: bool | None = None,
) -> Reveal:
    """What asks for an entry's card."""
    return Reveal(
        account=account or entry.account,
        livemode=entry.livemode if livemode is None else livemode,
        payment_method_id=entry.payment_method_id,
        with_cvc=with_cvc,
    )


async def every_value(dsn: str) -> bytes:
    """Every text and every byte string of every table, joined: where a canary would be if it had been stored."""
    db = await Database.connect(dsn, role="guilder_owner", max_size=1, name="test")
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = 'guilder_owner'")
    values: list[bytes] = []
    for table in tables:
        for row in await db.fetch(f'SELECT * FROM "{table["tablename"]}"'):
            values += [value.encode() if isinstance(value, str) else value for value in row if isinstance(value, str | bytes)]
    await db.close()
    return b"\n".join(values)
