"""The configuration file: what it may say, what it leaves alone, what is refused by its place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guilder.cli import app
from guilder.config import Settings
from guilder.core.retry import Jitter, Kind
from guilder.psp.connectors import webpsp
from guilder.psp.connectors.configured import routes, rules
from guilder.tuning import RETRIES, Timeouts, Tuning, WrongTuning

FILE = """
[retry.psp-query]
base_seconds = 2

[retry.webhook]
kind = "fixed"
base_seconds = 60
attempts_max = 100
elapsed_max_seconds = 3600
budget_share = 0.1

[connectors.cardnet.timeouts]
read_seconds = 5

[connectors.backup]
address = "127.0.0.1:8600"
retry.psp-query.jitter = "decorrelated"

[fallback]
next_connector = true
wait_seconds = 3600
wait_seconds_of.acct_1 = 60

[risk]
url = "https://risk.example.com/score"
secret = "tell nobody"
pass_up_to.eur = 5000
larger = "wait"
"""


@pytest.fixture
def tuning(tmp_path: Path) -> Tuning:
    """What FILE says."""
    path = tmp_path / "guilder.toml"
    path.write_text(FILE)
    return Tuning.read(path)


def test_without_a_file_the_defaults_hold() -> None:
    """No fallback, no risk service."""
    tuning = Tuning.read(None)
    assert {name: tuning.policy(name) for name in RETRIES} == RETRIES
    assert tuning.connector("cardnet").timeouts == Timeouts()
    assert (tuning.fallback.next_connector, tuning.fallback.waits("acct_1"), tuning.risk.url) == (False, None, None)


def test_the_risk_services_secret_is_in_no_text(tuning: Tuning) -> None:
    """Neither what is logged of the configuration nor a stack shows it."""
    assert tuning.risk.secret == "tell nobody"
    assert "tell nobody" not in f"{tuning} {tuning!r} {tuning.risk}"


def test_the_file_changes_what_it_names_and_nothing_else(tuning: Tuning) -> None:
    """A policy in general and for one connector; timeouts; the time that a payment may wait, for each merchant."""
    query = tuning.policy("psp-query")
    assert (query.base_seconds, query.cap_seconds, query.jitter) == (2.0, 30.0, Jitter.EQUAL)
    assert tuning.policy("psp-query", "backup").jitter is Jitter.DECORRELATED
    assert tuning.policy("psp-query", "backup").base_seconds == 2.0
    assert tuning.policy("webhook").kind is Kind.FIXED
    assert tuning.policy("psp-reversal", "backup") == RETRIES["psp-reversal"]
    assert tuning.connector("cardnet").timeouts == Timeouts(read_seconds=5)
    assert tuning.connector("backup").host_port == ("127.0.0.1", 8600)
    assert (tuning.fallback.waits("acct_1"), tuning.fallback.waits("acct_2")) == (60, 3600)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[retry.coffee]", "there is no retry policy coffee"),
        ("retry.psp-reversal.attempts_max = 3", "psp-reversal can have no attempts_max"),
        ("retry.psp-resend.kind = 'fixed'", "psp-resend is immediate"),
        ("retry.consumer.budget_share = 0.1", "consumer can have no budget_share"),
        ("retry.webhook.kind = 'often'", r"retry\.webhook\.kind: "),
        ("retry.webhook = 3", r"retry\.webhook: Expected `object`, got `int`"),
        ("connectors.cardnet.retry.psp-query.kind = 'often'", r"connectors\.cardnet\.retry\.psp-query\.kind: "),
        ("connectors.cardnet.retry.psp-wait.attempts_max = 3", r"connectors\.cardnet\.retry\.psp-wait can have no attempts_max"),
        ("connectors.webpsp.psp_merchant = 'OURS'\nconnectors.cardnet.timeouts.read_seconds = 'abc'",
         r"connectors\.cardnet\.timeouts\.read_seconds: Expected `float`, got `str`"),
        ("connectors.cardnet = 3", r"connectors\.cardnet: Expected `object`"),
        ("connectors.cardnet.timeouts.reed_seconds = 3", r"connectors\.cardnet\.timeouts: .*unknown field `reed_seconds`"),
        ("fallback.wait_seconds_of = { acct_1 = 60, acct_2 = 'long' }", r"fallback\.wait_seconds_of\.acct_2: Expected `int`"),
        ("fallback.declines = ['a', 3]", r"fallback\.declines\[1\]: Expected `str`"),
        ("risk.pass_up_to = { eur = 5, usd = 1.5 }", r"risk\.pass_up_to\.usd: Expected `int`"),
        ("connectors.cardnet.retry.webhook.factor = 3", "set retry.webhook"),
        ("connectors.webpsp.retry.psp-connect.cap_seconds = 3", "would change nothing"),
        ("connectors.backup = { address = '127.0.0.1:1', retry.psp-page.cap_seconds = 3 }", "would change nothing"),
        ("connectors.webpsp.address = '127.0.0.1:1'", "connectors.webpsp can have no address"),
        ("connectors.cardnet.timeouts.read_seconds = 0", r"connectors\.cardnet\.timeouts: read_seconds must be above 0"),
        ("connectors.cardnet.timeouts.total_seconds = 2", "total_seconds must not be shorter"),
        ("connectors.cardnet.bulkhead.payments_max = 0", "payments_max"),
        ("connectors.cardnet.breaker.cool_down_seconds = inf", "cool_down_seconds"),
        ("connectors.cardnet.breaker.probe_interval_seconds = nan", "probe_interval_seconds"),
        ("risk.breaker.failures_min = 0", "failures_min"),
        ("connectors.backup.address = 'nowhere'", "HOST:PORT"),
        ("connectors.backup.timeouts.read_seconds = 3", "connectors.backup has no address"),
        ("connectors.cardnet.address = '127.0.0.1:1'", "connectors.cardnet can have no address"),
        ("fallback.wait_seconds = 0", "may wait for 1 to"),
        ("fallback.often = true", "unknown field `often`"),
        ("risk.url = 'ftp://x'", "url must begin with http"),
        ("risk.larger = 'pray'", "larger"),
        ("risk = ", "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(tmp_path: Path, line: str, says: str) -> None:
    """Before anything starts; the message names the file too."""
    path = tmp_path / "other.toml"
    path.write_text(line)
    with pytest.raises(WrongTuning, match=rf"(?s)other\.toml.*{says}"):
        Settings.load({"GUILDER_CONFIG": str(path)})


def test_connectors_that_are_added_come_after_cardnet_and_rules_may_name_them(tmp_path: Path) -> None:
    """All with what the file says of them; webpsp, which takes pages, comes last."""
    (tmp_path / "guilder.toml").write_text(FILE + '[connectors.webpsp]\npsp_merchant = "OURS2"\nbulkhead.payments_max = 7\n')
    (tmp_path / "routes.toml").write_text('[[rule]]\nname = "all"\nconnectors = { backup = 1 }\n')
    settings = Settings.load({"GUILDER_DATA": str(tmp_path), "GUILDER_ROUTES": str(tmp_path / "routes.toml")})
    ways = [(route.connector, route.psp_merchant, route.declares.own_page) for route in routes(settings)]
    assert ways == [("cardnet", "GUILDERSANDBOX1", False), ("backup", "GUILDERSANDBOX1", False), ("webpsp", "OURS2", True)]
    assert [rule.connectors for rule in rules(settings)] == [(("backup", 1),)]
    assert webpsp.Limits.of(settings.tuning, "webpsp") == webpsp.Limits(payments_in_flight_max=7)


def test_the_file_in_the_data_folder_is_found_and_one_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    """DATA/guilder.toml, unless GUILDER_CONFIG names another."""
    (tmp_path / "guilder.toml").write_text(FILE)
    settings = Settings.load({"GUILDER_DATA": str(tmp_path)})
    assert settings.tuning_file == tmp_path / "guilder.toml"
    assert settings.tuning.fallback.next_connector
    assert Settings.load({"GUILDER_DATA": str(tmp_path / "other")}).tuning == Tuning()
    with pytest.raises(WrongTuning, match=r"missing\.toml cannot be read"):
        Settings.load({"GUILDER_CONFIG": str(tmp_path / "missing.toml")})


def test_config_show_tells_where_kafka_and_the_rules_are_and_no_way_in(tmp_path: Path) -> None:
    """What Kafka's client is passed is shown where it can be no secret."""
    env = {
        "GUILDER_KAFKA_BOOTSTRAP": "kafka:9092", "GUILDER_KAFKA_SASL_MECHANISM": "PLAIN", "GUILDER_KAFKA_SASL_USERNAME": "pw1",
        "GUILDER_KAFKA_SASL_PASSWORD": "pw2", "GUILDER_KAFKA_SSL_KEY_PEM": "pw3", "GUILDER_ROUTES": str(tmp_path / "routes.toml"),
    }  # fmt: skip
    shown = CliRunner().invoke(app, ["config", "show", "--data", str(tmp_path), "--json"], env=env)
    found = {one["name"]: (one["value"], one["source"]) for one in json.loads(shown.output)["settings"]}
    assert found["routes_file"] == (str(tmp_path / "routes.toml"), "GUILDER_ROUTES")
    assert found["kafka.bootstrap"] == ("kafka:9092", "GUILDER_KAFKA_BOOTSTRAP")
    assert found["kafka.prefix"] == ("guilder", "default")
    assert found["kafka.sasl.mechanism"] == ("PLAIN", "GUILDER_KAFKA_SASL_MECHANISM")
    assert found["kafka.sasl.password"] == ("***", "GUILDER_KAFKA_SASL_PASSWORD")
    assert not [secret for secret in ("pw1", "pw2", "pw3") if secret in shown.output]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://risk.example.com/score?key=pw1&v=2#pw2", "https://risk.example.com/score?key=***&v=***"),
        ("https://risk.example.com/score?pw1", "https://risk.example.com/score?***"),
        ("https://us:pw1/pw2@risk.example.com/score?key=pw3", "https://***@risk.example.com/score?key=***"),
        ("https://us:pw1/pw2@risk.example.com/score?mail=pw3@x", "https://***"),
        ("https://us@a:pw1?pw2@risk.example.com", "https://***"),
        ("https://us:pw1?pw2@risk.example.com", "https://***"),
        ("https://us:pw1#pw2@risk.example.com", "https://***"),
    ],
)
def test_config_show_masks_whatever_of_an_address_can_be_a_secret(tmp_path: Path, url: str, shown: str) -> None:
    """Who asks, and every value behind the question mark; what cannot be told from a password, too."""
    (tmp_path / "guilder.toml").write_text(f'risk.url = "{url}"\n')
    told = CliRunner().invoke(app, ["config", "show", "--data", str(tmp_path), "--json"], env={"GUILDER_REPLICA_URL": f"postgresql{url[5:]}"}).output
    found = {one["name"]: one["value"] for one in json.loads(told)["settings"]}
    assert found["risk.url"] == shown
    assert found["replica_url"] == f"postgresql{shown[5:]}"
    assert "pw" not in told


def test_config_show_tells_what_is_off(tmp_path: Path) -> None:
    """A setting without a value is shown with what holds instead: nobody looks for a line that is not there."""
    shown = CliRunner().invoke(app, ["config", "show", "--data", str(tmp_path)]).output
    lines = {name: " ".join(words) for name, *words in map(str.split, shown.splitlines())}
    assert set(Settings.__struct_fields__) - {"ports", "tuning", "kafka"} <= set(lines)
    assert {name: lines[name] for name in (
        "port", "database_url", "replica_url", "webhook_allow", "routes_file", "kafka.bootstrap", "raw_cards_live", "retry.psp-query.attempts_max",
        "fallback.next_connector", "fallback.wait_seconds", "fallback.wait_seconds_of", "risk.url", "risk.pass_up_to", "connectors.cardnet.address",
    )} == {
        "port": "those of the last time, else 8420 and the next four (default)", "database_url": "the embedded server (default)",
        "replica_url": "off (default)", "webhook_allow": "test mode loopback,http; live mode nothing (default)", "routes_file": "none (default)",
        "kafka.bootstrap": "off (default)", "raw_cards_live": "no (default)", "retry.psp-query.attempts_max": "no bound (default)",
        "fallback.next_connector": "no (default)", "fallback.wait_seconds": "off (default)", "fallback.wait_seconds_of": "none (default)",
        "risk.url": "off (default)", "risk.pass_up_to": "none (default)", "connectors.cardnet.address": "none (default)",
    }  # fmt: skip


def test_config_show_names_every_source_and_masks_every_secret(tmp_path: Path) -> None:
    """A flag, a variable, the file, the default; a connector's policy stands on the general one."""
    (tmp_path / "guilder.toml").write_text(
        'risk.url = "https://us:pw1@risk.example.com"\nrisk.secret = "pw2"\nretry.psp-query.base_seconds = 3\n'
        'connectors.cardnet.retry.psp-query.jitter = "full"\n'
    )
    env = {"GUILDER_DATABASE_URL": "postgresql://us:pw3@db.example.com/x", "GUILDER_PROXIES": "1"}
    shown = CliRunner().invoke(app, ["config", "show", "--data", str(tmp_path), "--json"], env=env)
    assert shown.exit_code == 0, shown.output
    found = {one["name"]: (one["value"], one["source"]) for one in json.loads(shown.output)["settings"]}
    assert found["data_dir"] == (str(tmp_path), "flag")
    assert found["database_url"] == ("postgresql://***@db.example.com/x", "GUILDER_DATABASE_URL")
    assert found["proxies"] == (1, "GUILDER_PROXIES")
    assert found["risk.url"] == ("https://***@risk.example.com", "file")
    assert found["risk.secret"] == ("***", "file")
    assert found["retry.psp-query.cap_seconds"] == (30.0, "default")
    assert found["connectors.cardnet.retry.psp-query.base_seconds"] == (3.0, "file")
    assert found["connectors.cardnet.retry.psp-query.jitter"] == ("full", "file")
    assert not [secret for secret in ("pw1", "pw2", "pw3") if secret in shown.output]
    text = CliRunner().invoke(app, ["config", "show", "--data", str(tmp_path)], env=env).output
    assert "webhook.attempts_max" in text
    assert "pw" not in text.replace("guilder", "")
