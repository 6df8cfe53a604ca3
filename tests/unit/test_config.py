"""Settings: which source wins, what is refused, where the files lie."""

import re
from pathlib import Path

import pytest

from guilder.config import Ports, Settings, WrongSetting
from guilder.tuning import WrongTuning

ROOT = Path(__file__).parents[2]


def test_defaults_stand_below_the_working_directory() -> None:
    """Nothing set: the embedded database, port 8420 and the four that follow."""
    settings = Settings.load({})
    assert settings.data_dir == Path.cwd() / "guilder-data"
    assert settings.database_url is None
    assert settings.ports == Ports(api=8420, checkout=8421, dashboard=8422, network_http=8423, network_iso=8424)
    assert settings.api_url == "http://127.0.0.1:8420"


def test_a_flag_wins_over_its_variable() -> None:
    """And a flag that was not given (None) does not."""
    env = {"GUILDER_PORT": "9000", "GUILDER_DATA": "/from/env"}
    settings = Settings.load(env, {"port": 9100, "data_dir": None})
    assert settings.ports.api == 9100
    assert settings.data_dir == Path("/from/env")


def test_port_zero_leaves_every_port_to_be_found() -> None:
    """The supervisor finds free ones and remembers them."""
    assert Settings.load({}, {"port": 0}).ports == Ports.from_first(0)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"GUILDER_PORT": "http"}, "port"),
        ({"GUILDER_PORT": "70000"}, "port"),
        ({"GUILDER_PORT": "65533"}, "four"),
        ({"GUILDER_API_PROCESSES": "0"}, "GUILDER_API_PROCESSES"),
        ({"GUILDER_API_PROCESSES": "99"}, "GUILDER_API_PROCESSES"),
        ({"GUILDER_API_PROCESSES": "5"}, "--api-processes.* 1 to 4.*sixteen database connections.*guilder run api"),
        ({"GUILDER_DATABASE_URL": "mysql://x"}, "GUILDER_DATABASE_URL"),
        ({"GUILDER_WEBHOOK_ALLOW": "loopback,10.0.0.1/8"}, "GUILDER_WEBHOOK_ALLOW"),
        ({"GUILDER_WEBHOOK_ALLOW": "localhost"}, "GUILDER_WEBHOOK_ALLOW"),
        ({"GUILDER_CHECKOUT_URL": "ftp://x"}, "GUILDER_CHECKOUT_URL"),
        ({"GUILDER_RAW_CARDS_LIVE": "perhaps"}, "GUILDER_RAW_CARDS_LIVE"),
        ({"GUILDER_OUTBOX_MAX": "many"}, "GUILDER_OUTBOX_MAX"),
        ({"GUILDER_OUTBOX_MAX": "10"}, "GUILDER_OUTBOX_MAX.*1000"),
        ({"GUILDER_KAFKA_BOOTSTRAP": "kafka"}, "GUILDER_KAFKA_BOOTSTRAP.*host:port"),
        ({"GUILDER_KAFKA_BOOTSTRAP": "one:9092,two"}, "GUILDER_KAFKA_BOOTSTRAP.*'two'"),
        ({"GUILDER_KAFKA_BOOTSTRAP": "one:99999"}, "GUILDER_KAFKA_BOOTSTRAP"),
        ({"GUILDER_KAFKA_BOOTSTRAP": "one:9092", "GUILDER_KAFKA_PREFIX": "a b"}, "GUILDER_KAFKA_PREFIX"),
        ({"GUILDER_KAFKA_BOOTSTRAP": "one:9092", "GUILDER_KAFKA_ACKS": "1"}, "GUILDER_KAFKA_ACKS is no setting"),
        ({"GUILDER_WEBHOOK_ALOW": "none"}, "GUILDER_WEBHOOK_ALOW is no setting: did you mean GUILDER_WEBHOOK_ALLOW?"),
        ({"GUILDER_RUOTES": "x"}, "did you mean GUILDER_ROUTES?"),
        ({"GUILDER_KAFKABOOTSTRAP": "one:9092"}, "did you mean GUILDER_KAFKA_BOOTSTRAP?"),
        ({"GUILDER_COFFEE_BLACK_PLEASE": "yes"}, "GUILDER_COFFEE_BLACK_PLEASE is no setting: there are GUILDER_API_PROCESSES, .*GUILDER_ROUTES"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(env: dict[str, str], says: str) -> None:
    """Before anything starts, and in words that say which setting it was."""
    with pytest.raises(WrongSetting, match=says):
        Settings.load(env)


def test_an_empty_variable_counts_as_not_set() -> None:
    """As shells and compose files leave them."""
    assert Settings.load({"GUILDER_PORT": "", "GUILDER_DATABASE_URL": "", "GUILDER_NO_SETTING": ""}).database_url is None


def test_every_variable_that_the_project_reads_is_known() -> None:
    """Settings, and what tests, experiment and benchmarks hand to the processes that they start; all others are slips."""
    named = re.compile(r"GUILDER_[A-Z_]*[A-Z]\b")
    sources = [path for folder in ("src", "chaos", "benchmarks", "docs", ".ci") for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"]
    sources += [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "acceptance").glob("*.py"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    read = {found for path in sources if path.is_file() for found in named.findall(path.read_text(encoding="utf-8", errors="replace"))}
    unknown = []
    for name in sorted(read):
        try:
            Settings.load({name: "nothing sensible"})
        except WrongSetting as error:
            unknown += [name] if f"{name} is no setting" in str(error) else []
        except WrongTuning:
            pass
    assert unknown == []
    assert len(read) > 20


def test_sockets_move_to_a_short_folder_when_the_data_path_is_long() -> None:
    """A Unix socket's path is limited, a data folder's is not; the same data always gives the same folder."""
    deep = Settings.load({}, {"data_dir": "/" + "deep/" * 40})
    assert len(str(deep.vault_socket)) < 108
    assert deep.run_dir == Settings.load({}, {"data_dir": "/" + "deep/" * 40}).run_dir
    assert Settings.load({}, {"data_dir": "/srv/guilder"}).run_dir == Path("/srv/guilder/run")


def test_the_api_is_reachable_under_loopback_when_it_listens_everywhere() -> None:
    """0.0.0.0 is no address to call."""
    assert Settings.load({"GUILDER_HOST": "0.0.0.0"}).api_url == "http://127.0.0.1:8420"
    assert Settings.load({"GUILDER_HOST": "::1"}).api_url == "http://[::1]:8420"


def test_what_kubernetes_adds_for_services_whose_names_begin_as_ours_is_passed_over() -> None:
    """Nobody has written these, and nobody means a setting by them."""
    added = {
        "GUILDER_SERVICE_HOST": "10.0.0.7", "GUILDER_SERVICE_PORT": "8420", "GUILDER_SERVICE_PORT_API": "8420",
        "GUILDER_PORT_8420_TCP": "tcp://10.0.0.7:8420", "GUILDER_PORT_8420_TCP_PROTO": "tcp", "GUILDER_PORT_8420_TCP_ADDR": "10.0.0.7",
        "GUILDER_POSTGRES_SERVICE_HOST": "10.0.0.8", "GUILDER_POSTGRES_PORT": "tcp://10.0.0.8:5432",
        "GUILDER_POSTGRES_PORT_5432_TCP": "tcp://10.0.0.8:5432",
    }  # fmt: skip
    assert Settings.load(added) == Settings.load({})


def test_settings_about_tls_and_sasl_go_to_kafkas_client_under_its_own_names() -> None:
    """And what they hold is not shown by whoever prints the settings."""
    kafka = Settings.load({
        "GUILDER_KAFKA_BOOTSTRAP": "one:9093,two:9093", "GUILDER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "GUILDER_KAFKA_SASL_MECHANISM": "PLAIN",
        "GUILDER_KAFKA_SASL_PASSWORD": "hush", "GUILDER_KAFKA_SSL_CA_LOCATION": "/etc/ca.pem",
    }).kafka  # fmt: skip
    assert kafka is not None
    assert dict(kafka.passed_on) == {
        "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.password": "hush", "ssl.ca.location": "/etc/ca.pem",
    }  # fmt: skip
    assert "hush" not in repr(kafka)


def test_without_a_cluster_there_is_none() -> None:
    """Its other settings alone change nothing."""
    assert Settings.load({"GUILDER_KAFKA_SASL_PASSWORD": "hush"}).kafka is None
