"""A disk that is full: the answer never lies, and service is there again by itself when there is room."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe
from whole_system import System

DISK_BYTES = 400 * 1024 * 1024
PAYMENTS = 10
SECONDS_MAX = 20.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def pay(shop: stripe.StripeClient, key: str) -> str | int | None:
    """The payment's status, or the HTTP status of the refusal."""
    order = {"amount": 1099, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    try:
        return shop.v1.payment_intents.create(order, {"idempotency_key": key}).status  # type: ignore[arg-type]
    except stripe.StripeError as error:
        return error.http_status


def fill(file: Path) -> None:
    """Take every byte that is left."""
    with file.open("ab", buffering=0) as sink:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    sink.write(b"x" * size)
            except OSError:
                continue


@pytest.mark.needs("mounting")
def test_on_a_full_disk_nothing_is_half_done_and_service_comes_back_by_itself(small_disk: Path) -> None:
    """Each request is answered 503 (nothing stored) or 500 (repeat with the key); afterwards each key has one payment."""
    system = System(small_disk / "data")
    line = system.up()
    try:
        shop = stripe.StripeClient(line["secret_key"], base_addresses={"api": line["api"]}, max_network_retries=0)
        assert pay(shop, "before") == "succeeded"
        said = []
        for number in range(PAYMENTS):
            fill(small_disk / "fill")
            said.append(pay(shop, f"full-{number}"))
        assert 503 in said
        assert set(said) <= {"succeeded", "processing", 500, 503}
        (small_disk / "fill").unlink()
        assert [until_paid(shop, f"full-{number}") for number in range(PAYMENTS)] == ["succeeded"] * PAYMENTS
        assert len(list(shop.v1.payment_intents.list({"limit": 100}).data)) == PAYMENTS + 1
        checked = system.command("check")
        assert checked.returncode == 0, checked.stdout
    finally:
        system.stop()


def until_paid(shop: stripe.StripeClient, key: str) -> str | int | None:
    """Repeat the request until it is answered, as a client does."""
    end = time.monotonic() + SECONDS_MAX
    while (status := pay(shop, key)) in (409, 500, 503) and time.monotonic() < end:
        pass
    return status
