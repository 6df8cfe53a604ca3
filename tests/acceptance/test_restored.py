"""A whole system whose database is put back from a backup: it may be read, and takes and sends nothing until a person lets it."""

import json
import shutil
from pathlib import Path

import pytest
from payments_system import Shop

pytestmark = pytest.mark.slow


def test_a_restored_database_answers_reads_and_takes_no_money_until_it_is_let_go(tmp_path: Path) -> None:
    """A payment of after the backup is at the bank and not in the books: `check` tells, and nothing was sent meanwhile."""
    shop = Shop(tmp_path)
    backup = tmp_path / "backup"
    try:
        shop.up()
        before = shop.paid()
        assert shop.stop() == 0
        shutil.copytree(shop.data / "postgres", backup, symlinks=True)
        shop.up()
        lost = shop.paid()
        assert shop.stop() == 0
        shutil.rmtree(shop.data / "postgres")
        backup.rename(shop.data / "postgres")
        shop.up()
        assert shop.get(f"/v1/payment_intents/{before['id']}")["status"] == "succeeded"
        assert shop.request("GET", f"/v1/payment_intents/{lost['id']}").status == 404
        refused = shop.request("POST", "/v1/payment_intents", {"amount": 1_000, "currency": "eur"})
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        shown = json.loads(shop.command("quarantine", "show", "--json").stdout)
        assert "generations" in shown["quarantine"]["reason"]
        checked = shop.command("check")
        assert checked.returncode == 1, "an effect without an intent"
        assert shop.command("quarantine", "lift").returncode == 0
        assert json.loads(shop.command("quarantine", "show", "--json").stdout) == {"quarantine": None}
        assert shop.paid()["status"] == "succeeded"
        assert shop.stop() == 0
    finally:
        if shop.process is not None:
            shop.process.kill()
            shop.process.communicate()
