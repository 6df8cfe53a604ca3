"""A whole system whose bank misbehaves: what is measured, shown and announced. One system for all tests of this module."""

import json
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from whole_system import System, until

from bank_process import BankProcess, ControlPort


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system with two API processes, and another bank that its payments may fall back to."""
    folder: Path = tmp_path_factory.mktemp("resilience")
    data = folder / "data"
    data.mkdir()
    other = BankProcess(folder / "other bank", arguments=("--iso-port", "0", "--http-port", "0"))
    (data / "guilder.toml").write_text(
        f'fallback.next_connector = true\nconnectors.backup.address = "127.0.0.1:{other.addresses["iso_port"]}"\n'
        "connectors.cardnet.timeouts.queue_seconds = 0.5\nconnectors.cardnet.retry.psp-connect.cap_seconds = 0.1\n"
    )
    found = System(data)
    found.up("--port", "0", "--api-processes", "2")
    yield found
    if found.process is not None:
        found.process.kill()
        found.process.communicate()
    other.process.kill()
    other.process.communicate()


def post(system: System, path: str, **fields: str) -> dict[str, Any]:
    """POST a form as the sandbox merchant."""
    request = urllib.request.Request(system.line["api"] + path, urllib.parse.urlencode(fields).encode())
    request.add_header("Authorization", "Basic " + b64encode(f"{system.line['secret_key']}:".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def get(system: System, path: str) -> dict[str, Any]:
    """GET as the sandbox merchant."""
    request = urllib.request.Request(system.line["api"] + path)
    request.add_header("Authorization", "Basic " + b64encode(f"{system.line['secret_key']}:".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def pay(system: System) -> dict[str, Any]:
    """A payment of 10.50 euros with the card that always works."""
    return post(system, "/v1/payment_intents", amount="1050", currency="eur", payment_method="pm_card_visa", confirm="true",
                **{"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"})  # fmt: skip


def scraped(url: str) -> str:
    """What Prometheus would read."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        return answer.read().decode()


def test_every_process_serves_its_metrics_on_loopback_and_run_json_says_where(system: System) -> None:
    """Each API process of its own; the executor knows its PSP's breakers and waits."""
    assert pay(system)["status"] == "succeeded"
    roles = system.running()["roles"]
    metrics = until(lambda: system.running()["metrics"] if sum(map(len, system.running()["metrics"].values())) == sum(map(len, roles.values())) else None, "all tell")
    assert {role: len(urls) for role, urls in metrics.items()} == {role: len(pids) for role, pids in roles.items()}
    for role, urls in metrics.items():
        for url in urls:
            assert url.startswith("http://127.0.0.1:")
            assert f'guilder_role{{role="{role}"}} 1.0' in scraped(url)
    assert any('guilder_http_requests_total{status="200"}' in scraped(url) for url in metrics["api"])
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(system.line["checkout"] + "/nowhere", timeout=20)
    assert 'guilder_http_requests_total{status="404"} 1.0' in scraped(metrics["checkout"][0])
    assert {'guilder_webhook_deliveries_total{outcome="delivered"}', 'guilder_webhook_backlog{waits_for="first_try"}'} <= {
        line.rpartition(" ")[0] for line in scraped(metrics["worker"][0]).splitlines()
    }
    executor = scraped(metrics["executor"][0])
    assert 'guilder_psp_orders_total{connector="cardnet",operation="purchase",outcome="approved"}' in executor
    for connector in ("cardnet", "backup", "webpsp"):
        assert f'guilder_psp_breaker_state{{connector="{connector}",operation="query",state="closed"}} 1.0' in executor


def test_psp_latency_prints_percentiles_and_what_each_timeout_cuts_off(system: System) -> None:
    """From what the executor has stored."""
    pay(system)

    def shown() -> Any:
        asked = system.command("psp", "latency", "--json")
        assert asked.returncode == 0, asked.stderr
        return {(one["operation"], one["wait"]): one for one in json.loads(asked.stdout)["latencies"] if one["connector"] == "cardnet"}

    found = until(lambda: (rows := shown()).get(("purchase", "read")) and rows, "something is stored")
    read = found["purchase", "read"]
    assert (read["timeout"], read["cut_off"] == read["unanswered"] / read["count"]) == (8.0, True)
    assert 0 < read["percentiles"][0] < 8
    assert found["connect", "connect"]["count"] >= 2
    text = system.command("psp", "latency").stdout
    assert {"read", "p50", "p99.9", "timeout"} <= set(text.replace("┃", " ").replace("│", " ").split())


def test_a_payment_whose_bank_is_down_is_made_at_the_other_one_and_tells_so(system: System) -> None:
    """The bank refuses connections: what it had under way is settled there, what is new goes on elsewhere; the books agree."""
    control = ControlPort(int(system.running()["network_control"].rpartition(":")[2]))
    for rule in ({"kind": "close", "operation": "network"}, {"kind": "close", "operation": "purchase", "effect": False, "count": 1}):
        control.call("POST", "/faults", rule)
    first = pay(system)
    assert first["status"] == "processing", "its bank had it, and went away: nobody else is asked"
    second = pay(system)
    assert second["status"] == "succeeded"
    shown = system.command("payments", "show", second["id"])
    assert shown.returncode == 0, shown.stderr
    story = shown.stdout
    assert "accepted for backup" in story
    assert "cardnet: not sent, connect" in story
    control.call("DELETE", "/faults")

    def ended() -> bool:
        return get(system, f"/v1/payment_intents/{first['id']}")["status"] == "requires_payment_method"

    until(ended, "the first one is undone")
    checked = system.command("check", "--json")
    assert checked.returncode == 0, checked.stdout
