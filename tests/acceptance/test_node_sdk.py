"""The official stripe-node, unmodified, through the main flows at a whole running system (node_flows.mjs)."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from payments_system import Shop, running_shop

pytestmark = [pytest.mark.slow, pytest.mark.needs("stripe-node")]

SCRIPT = Path(__file__).with_name("node_flows.mjs")
# Node looks for packages beside the script; `make node` has put them here.
PACKAGES = Path(__file__).resolve().parents[2] / "requirements" / "node" / "node_modules"
RUN_SECONDS_MAX = 60


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A running system."""
    with running_shop(tmp_path) as shop:
        yield shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script and the SDK beside it."""
    found = tmp_path / "node"
    found.mkdir()
    shutil.copy(SCRIPT, found)
    (found / "node_modules").symlink_to(PACKAGES)
    return found


def test_the_main_flows_work_with_stripe_node(folder: Path, shop: Shop) -> None:
    """Payments, declines, captures, refunds, customers, lists, events, errors, keys, orders, challenges, tills, webhooks, our own resources."""
    host, _, port = shop.line["api"].removeprefix("http://").partition(":")
    done = subprocess.run(
        ["node", SCRIPT.name, host, port, shop.line["secret_key"], shop.line["publishable_key"]],
        cwd=folder, capture_output=True, text=True, check=False, timeout=RUN_SECONDS_MAX,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == SCRIPT.read_text().count("async \"")
