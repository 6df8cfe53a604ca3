"""One frozen Settings, read once from flags and GUILDER_* variables and handed in everywhere.

A flag wins over its variable, a variable over the default. Whatever is wrong is refused by name before anything starts.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from guilder.core.errors import GuilderError
from guilder.tuning import Tuning

PORT: Final = 8420
TUNING_FILE: Final = "guilder.toml"
PORT_MAX: Final = 65_535
# As many processes as one system has at most, and some to spare.
METRICS_PORTS: Final = 16

# A Unix socket's path has at most 107 bytes, and the longest of our names in that folder is PostgreSQL's.
RUN_FOLDER_MAX: Final = 107 - len("/pg/.s.PGSQL.5432")

# With more, a process of the sixteen database connections of one `guilder up` would be left without one (bootstrap.POOLS).
API_PROCESSES_MAX: Final = 4


_KAFKA: Final = "GUILDER_KAFKA_BOOTSTRAP".removesuffix("BOOTSTRAP")
_OURS: Final = "GUILDER_"

_OF_FIELDS: Final[Mapping[str, str]] = {"data_dir": "GUILDER_DATA", "tuning_file": "GUILDER_CONFIG", "routes_file": "GUILDER_ROUTES"}
"""Variables that are not called as their field of Settings is."""
_NO_VARIABLE: Final = frozenset({"ports", "tuning", "kafka"})
"""Fields of Settings that other ones lead to."""
# What Kubernetes gives to every process beside a service that is called `guilder`, or `guilder-` and something.
_OF_OTHERS: Final = re.compile(_OURS + r"([A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)")
_OTHERS_PLACE: Final = re.compile(r"(tcp|udp|sctp)://.*")
# `guilder up` reads one of its own; core/crash.py reads the file; the others are of tests/conftest.py and keep_server.py,
# chaos/entry.py and benchmarks/load.lua, whose variables the processes that they start inherit.
_BESIDE: Final = re.compile(_OURS + r"(USER|CRASH_FILE|REQUIRE|TEST_[A-Z_]+|CHAOS_[A-Z_]+|LOAD|LOAD_CONTAINS)")

WEBHOOK_WORDS: Final = frozenset({"loopback", "private", "http", "none"})
"""What webhooks may be allowed to reach, beside networks by their numbers (webhooks/addresses.py)."""
# A content network, a balancer and a web server; a longer chain is a mistake.
PROXIES_MAX: Final = 5


# Entries that some consumer has not applied yet: half an hour of 100 payments a second with nobody at work, 150 MB of outbox.
OUTBOX_MAX: Final = 500_000
OUTBOX_LEAST: Final = 1_000

KAFKA_PASSED_ON: Final = ("SECURITY_PROTOCOL", "SASL_", "SSL_")
"""How those variables of Kafka's go on that librdkafka gets as they are: what we call SASL_MECHANISM is its sasl.mechanism."""
KAFKA_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


class WrongSetting(GuilderError):
    """A flag or variable that makes no sense; the message names it and says what would be right."""


class Ports(Struct, frozen=True, kw_only=True):
    """Where each part listens: five numbers in a row from the API's, unless all were taken as they were free."""

    api: int
    checkout: int
    dashboard: int
    network_http: int
    network_iso: int

    @classmethod
    def from_first(cls, first: int) -> "Ports":
        """N for the API and the next four for the others; 0 leaves every one to be found."""
        if first == 0:
            return cls(api=0, checkout=0, dashboard=0, network_http=0, network_iso=0)
        return cls(api=first, checkout=first + 1, dashboard=first + 2, network_http=first + 3, network_iso=first + 4)


class KafkaSettings(Struct, frozen=True, kw_only=True):
    """Where Kafka is, and how to be let in. Its passwords are not shown."""

    bootstrap: str
    prefix: str
    """What the names of our topics and consumers begin with: two installations may share a cluster."""
    passed_on: tuple[tuple[str, str], ...]
    """Settings of librdkafka about TLS and SASL."""

    @classmethod
    def load(cls, env: Mapping[str, str]) -> "KafkaSettings | None":
        """From the variables that begin as GUILDER_KAFKA_BOOTSTRAP does; None without that one. Raises WrongSetting."""
        given = {name.removeprefix(_KAFKA): value for name, value in env.items() if name.startswith(_KAFKA) and value}
        bootstrap = given.pop("BOOTSTRAP", None)
        prefix = given.pop("PREFIX", "guilder")
        for name in given:
            if not name.startswith(KAFKA_PASSED_ON):
                raise WrongSetting(
                    f"{_KAFKA}{name} is no setting: there are {_KAFKA}BOOTSTRAP, {_KAFKA}PREFIX, {_KAFKA}SECURITY_PROTOCOL, "
                    f"and those that begin with {_KAFKA}SASL_ or {_KAFKA}SSL_"
                )
        if bootstrap is None:
            return None
        for address in bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
                raise WrongSetting(f"{_KAFKA}BOOTSTRAP must be host:port, several separated by commas, not {address!r}")
        if not KAFKA_PREFIX.fullmatch(prefix):
            raise WrongSetting(f"{_KAFKA}PREFIX must be letters, digits, '.', '_' and '-', not {prefix!r}")
        passed_on = tuple(sorted((name.lower().replace("_", "."), value) for name, value in given.items()))
        return cls(bootstrap=bootstrap, prefix=prefix, passed_on=passed_on)

    def __repr__(self) -> str:
        return f"KafkaSettings({self.bootstrap!r}, {self.prefix!r}, {', '.join(name for name, _ in self.passed_on)})"


class Settings(Struct, frozen=True, kw_only=True):
    """What every part of one installation agrees on."""

    data_dir: Path
    database_url: str | None
    """None: the embedded server."""
    replica_url: str | None
    """A standby of the database from which lists may be read; None: everything is read from the primary."""
    host: str
    port: int | None
    """None: the ports of the last time, else 8420 and the next four. 0: the ports of the last time, else free ones."""
    ports: Ports
    api_processes: int
    checkout_url: str | None
    master_key_file: Path
    app_key_file: Path
    network_host: str
    """Where the acquirer listens; the sandbox's own unless set."""
    raw_cards_live: bool
    """Whether live secret keys may send raw card numbers."""
    webhook_allow: tuple[str, ...] | None
    """What webhooks may reach beyond public addresses: words of WEBHOOK_WORDS and networks; None for each mode's default."""
    routes_file: Path | None
    """The routing rules; None: the first connector that takes a payment is taken."""
    tuning: Tuning
    """Retries, timeouts, breakers, bulkheads and fallbacks, from the configuration file."""
    tuning_file: Path | None
    """That file; None when there is none."""
    metrics_port: int | None
    """The first of the loopback ports on which processes serve their metrics; None for free ones."""
    proxies: int
    """How many proxies of ours stand before the payment page: so many of X-Forwarded-For's last addresses are believed."""
    kafka: KafkaSettings | None
    """The cluster through which consumers read the log; None: they read the outbox."""
    outbox_max: int
    """Beyond so many entries that some consumer has not applied, nothing that moves money is accepted."""

    @classmethod
    def load(cls, env: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> "Settings":
        """Settings from variables, with flags over them (by field name; None means not given).

        Raises WrongSetting, WrongTuning.
        """
        _refuse_unknown(env)
        flags = {name: value for name, value in (overrides or {}).items() if value is not None}
        data = Path(str(_given(env, flags, "data_dir", "GUILDER_DATA", "guilder-data"))).expanduser().absolute()
        port = _given(env, flags, "port", "GUILDER_PORT", None)
        number = None if port is None else _port(port)
        tuning_file = _tuning_file(env.get("GUILDER_CONFIG"), data)
        return cls(
            data_dir=data,
            database_url=_database_url(_given(env, flags, "database_url", "GUILDER_DATABASE_URL", None)),
            replica_url=_database_url(env.get("GUILDER_REPLICA_URL") or None, "GUILDER_REPLICA_URL"),
            host=str(_given(env, flags, "host", "GUILDER_HOST", "127.0.0.1")),
            port=number,
            ports=Ports.from_first(PORT if number is None else number),
            api_processes=_api_processes(_given(env, flags, "api_processes", "GUILDER_API_PROCESSES", 1)),
            checkout_url=_url("GUILDER_CHECKOUT_URL", env.get("GUILDER_CHECKOUT_URL")),
            master_key_file=Path(env.get("GUILDER_MASTER_KEY_FILE") or data / "keys" / "master.key"),
            app_key_file=Path(env.get("GUILDER_APP_KEY_FILE") or data / "keys" / "app.key"),
            network_host=env.get("GUILDER_NETWORK_HOST") or "127.0.0.1",
            raw_cards_live=_yes("GUILDER_RAW_CARDS_LIVE", env.get("GUILDER_RAW_CARDS_LIVE")),
            webhook_allow=_allowance("GUILDER_WEBHOOK_ALLOW", env.get("GUILDER_WEBHOOK_ALLOW")),
            routes_file=Path(routes).expanduser().absolute() if (routes := env.get("GUILDER_ROUTES")) else None,
            kafka=KafkaSettings.load(env),
            outbox_max=_whole("GUILDER_OUTBOX_MAX", env.get("GUILDER_OUTBOX_MAX") or OUTBOX_MAX, OUTBOX_LEAST, 10**9),
            tuning=Tuning.read(tuning_file),
            tuning_file=tuning_file,
            metrics_port=_metrics_port(env.get("GUILDER_METRICS_PORT")),
            proxies=_whole("GUILDER_PROXIES", env.get("GUILDER_PROXIES") or 0, 0, PROXIES_MAX),
        )

    @property
    def run_dir(self) -> Path:
        """Where the sockets lie: DATA/run, or a folder of this user's with a short name where that path is too long."""
        wanted = self.data_dir / "run"
        if len(os.fsencode(wanted)) <= RUN_FOLDER_MAX:
            return wanted
        mark = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"guilder-{os.geteuid()}-{mark}"

    @property
    def vault_socket(self) -> Path:
        """Where the vault listens."""
        return self.run_dir / "vault.sock"

    @property
    def clock_file(self) -> Path:
        """Holds what business time is ahead of real time, in microseconds."""
        return self.data_dir / "clock"

    @property
    def run_file(self) -> Path:
        """What runs, for those who look for it."""
        return self.data_dir / "run.json"

    @property
    def sandbox_file(self) -> Path:
        """The sandbox merchant and its test keys."""
        return self.data_dir / "sandbox.json"

    @property
    def ports_file(self) -> Path:
        """The ports of the last time."""
        return self.data_dir / "ports.json"

    @property
    def webpsp_file(self) -> Path:
        """What the sandbox's web PSP and its connector know of each other: the API key and the signing secret."""
        return self.data_dir / "keys" / "webpsp.json"

    @property
    def generation_file(self) -> Path:
        """How often this installation has been started, outside its database."""
        return self.data_dir / "generation"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.data_dir / "lock"

    @property
    def log_dir(self) -> Path:
        """One file for each role, and PostgreSQL's."""
        return self.data_dir / "log"

    @property
    def network_dir(self) -> Path:
        """The sandbox bank world's own memory."""
        return self.data_dir / "network"

    @property
    def api_url(self) -> str:
        """The API's address, as others reach it."""
        return f"http://{_in_url(self.host)}:{self.ports.api}"

    @property
    def checkout_origin(self) -> str:
        """The payment page's origin, as buyers reach it."""
        return self.checkout_url or f"http://{_in_url(self.host)}:{self.ports.checkout}"

    @property
    def network_control(self) -> str:
        """The sandbox bank world's control port."""
        return f"http://{_in_url(self.network_host)}:{self.ports.network_http}"


def variable_of(field: str) -> str:
    """The variable that a field of Settings is read from."""
    return _OF_FIELDS.get(field, f"{_OURS}{field.upper()}")


def _refuse_unknown(env: Mapping[str, str]) -> None:
    """What begins as our variables do and is none is a slip, and without a word what was meant would not hold. Raises WrongSetting."""
    known = {variable_of(field) for field in Settings.__struct_fields__ if field not in _NO_VARIABLE}
    for name in sorted(env):
        # Kafka's are looked at where they are read.
        if not name.startswith(_OURS) or not env[name] or name in known or name.startswith(_KAFKA):
            continue
        if _BESIDE.fullmatch(name) or _OF_OTHERS.fullmatch(name) or _OTHERS_PLACE.fullmatch(env[name]):
            continue
        from difflib import get_close_matches

        near = get_close_matches(name, sorted({*known, f"{_OURS}USER", f"{_KAFKA}BOOTSTRAP", f"{_KAFKA}PREFIX"}), n=1)
        what = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}, and those of {_KAFKA}*"
        raise WrongSetting(f"{name} is no setting: {what}")


def _tuning_file(named: str | None, data: Path) -> Path | None:
    """GUILDER_CONFIG, which has to be there, else DATA/guilder.toml where there is one."""
    if named:
        return Path(named).expanduser().absolute()
    usual = data / TUNING_FILE
    return usual if usual.is_file() else None


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - comparing, not binding
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _given(env: Mapping[str, str], flags: Mapping[str, object], field: str, variable: str, default: object) -> object:
    if field in flags:
        return flags[field]
    return env.get(variable) or default


def _whole(name: str, value: object, least: int, most: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise WrongSetting(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return number


def _api_processes(value: object) -> int:
    name = "the number of API processes (--api-processes, GUILDER_API_PROCESSES)"
    try:
        return _whole(name, value, 1, API_PROCESSES_MAX)
    except WrongSetting as error:
        raise WrongSetting(
            f"{error}: the sixteen database connections of one system are enough for {API_PROCESSES_MAX}; "
            "further ones can be started with `guilder run api`",
        ) from None


def _port(value: object) -> int:
    number = _whole("the port (--port, GUILDER_PORT)", value, 0, PORT_MAX)
    if number > PORT_MAX - 4:
        raise WrongSetting(f"the port must leave room for the four that follow it: at most {PORT_MAX - 4}, not {number}")
    return number


def _metrics_port(value: str | None) -> int | None:
    return _whole("GUILDER_METRICS_PORT", value, 1, PORT_MAX - METRICS_PORTS) if value else None


def _database_url(value: object, name: str = "GUILDER_DATABASE_URL") -> str | None:
    if value is None:
        return None
    if urlsplit(str(value)).scheme not in ("postgres", "postgresql"):
        raise WrongSetting(f"{name} must begin with postgresql://")
    return str(value)


def _url(name: str, value: str | None) -> str | None:
    if not value:
        return None
    if urlsplit(value).scheme not in ("http", "https"):
        raise WrongSetting(f"{name} must begin with http:// or https://, not {value!r}")
    return value.rstrip("/")


def _allowance(name: str, value: str | None) -> tuple[str, ...] | None:
    if not value:
        return None
    words = tuple(word.strip() for word in value.split(","))
    for word in words:
        if word in WEBHOOK_WORDS:
            continue
        try:
            ip_network(word)
        except ValueError:
            known = ", ".join(sorted(WEBHOOK_WORDS))
            raise WrongSetting(f"{name} takes {known} and networks such as 10.1.0.0/16, separated by commas, not {word!r}") from None
    return words


def _yes(name: str, value: str | None) -> bool:
    if not value:
        return False
    if value.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise WrongSetting(f"{name} must be yes or no, not {value!r}")
    return value.lower() in ("1", "true", "yes")
