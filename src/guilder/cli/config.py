"""`guilder config`: what holds here, and where each of it comes from. Secrets are never shown."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer
from msgspec import Struct

from guilder.cli.options import Data, Host, Json, Port, load

if TYPE_CHECKING:
    from guilder.config import Settings

app = typer.Typer(help="Show the configuration.", no_args_is_help=True, rich_markup_mode=None)

_SECRET: Final = re.compile(r"secret|password|token", re.IGNORECASE)
# Of what is passed on to Kafka's client only this is no secret for sure.
_KAFKA_OPEN: Final = re.compile(r"bootstrap|prefix|security\.protocol|sasl\.mechanisms?|ssl\.[a-z.]+\.location")
MASKED: Final = "***"
DEFAULT: Final = "default"
FILE: Final = "file"
_UNSET: Final[Mapping[str, str]] = {
    "database_url": "the embedded server", "replica_url": "off", "port": "those of the last time, else 8420 and the next four",
    "checkout_url": "its own port", "webhook_allow": "test mode loopback,http; live mode nothing", "metrics_port": "free ports",
    "kafka.bootstrap": "off", "fallback.wait_seconds": "off", "risk.url": "off", "attempts_max": "no bound",
    "elapsed_max_seconds": "no bound", "budget_share": "no bound",
}  # fmt: skip
"""What holds where a setting has no value, by its name or the last part of it; `none` for all others."""


class Shown(Struct, frozen=True):
    """One setting: its name, its value as text, and the flag, variable or file that it comes from."""

    name: str
    value: Any
    source: str


@app.callback()
def _group() -> None:
    """Show the configuration."""


@app.command()
def show(data: Data = None, port: Port = None, host: Host = None, as_json: Json = False) -> None:
    """Show every setting with its source: a flag, a GUILDER_ variable, the configuration file, or the default."""
    from guilder.cli.output import write_json, write_lines

    settings = load(data_dir=data, port=port, host=host)
    flags = {name for name, value in (("data_dir", data), ("port", port), ("host", host)) if value is not None}
    found = [*_settings(settings, flags), *_tuning(settings)]
    if as_json:
        write_json({"settings": found})
    else:
        write_lines([(one.name, f"{_text(one)}   ({one.source})") for one in found])


def _settings(settings: "Settings", flags: set[str]) -> Iterator[Shown]:
    from guilder.config import variable_of

    for name in settings.__struct_fields__:
        if name in ("tuning", "ports"):
            continue
        if name == "kafka":
            yield from _kafka(settings)
            continue
        variable = variable_of(name)
        source = "flag" if name in flags else variable if os.environ.get(variable) else DEFAULT
        yield Shown(name, _masked(name, getattr(settings, name)), source)


def _kafka(settings: "Settings") -> Iterator[Shown]:
    if settings.kafka is None:
        yield Shown("kafka.bootstrap", None, DEFAULT)
        return
    for name, value in (("bootstrap", settings.kafka.bootstrap), ("prefix", settings.kafka.prefix), *settings.kafka.passed_on):
        place = f"kafka.{name}"
        variable = f"GUILDER_{place.upper().replace('.', '_')}"
        shown = _masked(name, value) if _KAFKA_OPEN.fullmatch(name) else MASKED
        yield Shown(place, shown, variable if os.environ.get(variable) else DEFAULT)


def _tuning(settings: "Settings") -> Iterator[Shown]:
    """The effective policies, timeouts, breakers, bulkheads and fallbacks; each connector with what differs for it."""
    from guilder.tuning import BROUGHT, RETRIES

    tuning, file = settings.tuning, settings.tuning_file
    given = dict(_leaves(tomllib.loads(file.read_text(encoding="utf-8")))) if file is not None else {}
    effective: dict[str, Any] = {f"retry.{name}": tuning.policy(name) for name in RETRIES}
    for connector in (*BROUGHT, *tuning.added):
        said = tuning.connector(connector)
        effective[f"connectors.{connector}"] = msgspec.to_builtins(said)
        # Told below as they hold, not as they are written.
        del effective[f"connectors.{connector}"]["retry"]
        for name in said.retry:
            effective[f"connectors.{connector}.retry.{name}"] = tuning.policy(name, connector)
    effective |= {"fallback": tuning.fallback, "risk": tuning.risk}
    for name, value in _leaves(msgspec.to_builtins(effective)):
        # What differs for a connector stands on what holds in general.
        general = name[name.index(".retry.") + 1 :] if ".retry." in name else name
        yield Shown(name, _masked(name, value), FILE if {name, general} & given.keys() else DEFAULT)


def _leaves(content: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its place; an empty table is one, too."""
    for name, value in content.items():
        here = f"{place}.{name}" if place else name
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _masked(name: str, value: object) -> object:
    from guilder.security import mask_url

    match value:
        case None | int() | float():
            return value
        case Mapping():
            return {}
        case _ if _SECRET.search(name):
            return MASKED
        case [*several]:
            return [_masked(name, one) for one in several]
    return mask_url(str(value)) if "://" in str(value) else str(value)


def _text(one: Shown) -> str:
    match one.value:
        case None:
            return _UNSET.get(one.name) or _UNSET.get(one.name.rpartition(".")[2], "none")
        case True | False:
            return "yes" if one.value else "no"
        case [*several]:
            return ", ".join(map(str, several)) or "none"
        case {}:
            return "none"
    return str(one.value)
