"""How we deal with those who do not answer: retries, timeouts, breakers, bulkheads, fallbacks. One frozen Tuning from one file.

The file is GUILDER_CONFIG, else DATA/guilder.toml where there is one. It holds only what differs from the defaults, which stand
here, each with its reason. Whatever is wrong is refused by its place in the file before anything starts. `guilder config show`
prints what holds, and where it comes from.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from guilder.core.errors import GuilderError
from guilder.core.retry import Jitter, Kind, Retry

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR

RETRIES: Final[Mapping[str, Retry]] = {
    # An order waits at most 3 s for a connection, so the cap stays below: whoever waits sees at least one attempt.
    "psp-connect": Retry(kind=Kind.EXPONENTIAL, base_seconds=0.05, cap_seconds=1.0),
    # The PSP is asked within a second of the doubt, then at doubling waits. Half a minute at most: after an outage, however long,
    # everything is settled within a minute, a reversal that follows the question included.
    "psp-query": Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=30.0, jitter=Jitter.EQUAL),
    # A reversal that the PSP has answered and not acknowledged: it is repeated, never dropped, and a person is told; an hour at most.
    "psp-reversal": Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=HOUR, jitter=Jitter.EQUAL),
    # The same request again, after the PSP said that it does not know it: at once, but never more than a tenth extra.
    "psp-resend": Retry(kind=Kind.IMMEDIATE, budget_share=0.1),
    # A refund that could not be sent, or was undone, begins anew.
    "psp-refund": Retry(kind=Kind.EXPONENTIAL, base_seconds=30.0, cap_seconds=6 * HOUR),
    # What cannot be sent now and may wait: no room in the bulkhead, no PSP that is up, no word from the risk service.
    "psp-wait": Retry(kind=Kind.EXPONENTIAL, base_seconds=1.0, cap_seconds=30.0, jitter=Jitter.EQUAL),
    # While a buyer may pay at the PSP's own page: he comes back, or the PSP tells; this is for when neither happens.
    "psp-page": Retry(kind=Kind.EXPONENTIAL, base_seconds=5.0, cap_seconds=60.0),
    # One more question, where nothing came of the first; a buyer waits for it.
    "risk-ask": Retry(kind=Kind.IMMEDIATE, attempts_max=2, budget_share=0.1, hopeless=frozenset({"refused", "unreadable", "breaker_open"})),
    # Twelve tries in three days on average: a deploy is seconds, a weekend is three days. Half of each wait is chance.
    "webhook": Retry(kind=Kind.EXPONENTIAL, base_seconds=5.0, factor=4.0, cap_seconds=DAY, attempts_max=12, jitter=Jitter.EQUAL),
    # A poison entry: 5 s, 1 min, 12 min, 1 h, then it is a person's. What cannot be read now can never be read.
    "consumer": Retry(
        kind=Kind.EXPONENTIAL, base_seconds=5.0, factor=12.0, cap_seconds=HOUR, attempts_max=5,
        hopeless=frozenset({"DecodeError", "ValidationError"}),
    ),
}  # fmt: skip
"""Every policy by its name: the operations that are tried again."""

NEVER_DROPPED: Final = frozenset({"psp-connect", "psp-query", "psp-reversal", "psp-refund", "psp-wait", "psp-page"})
"""Policies that no bound may end: a doubt is resolved and a reversal repeated however long it takes."""
BUDGETED: Final = frozenset({"psp-resend", "risk-ask", "webhook"})
"""Policies whose extra calls can be bounded by a budget."""
BROUGHT: Final = ("cardnet", "webpsp")
"""Connectors that Guilder brings; others are made by their address, and speak as the first of these does."""
NOT_TRIED: Final = frozenset({("cardnet", "psp-page"), ("webpsp", "psp-connect")})
"""What a connector has not: a page of its own; connections that are kept, whoever pays."""
OF_CONNECTORS: Final = frozenset(name for name in RETRIES if name.startswith("psp-"))

# Declines that say something of the way and nothing of the card: another PSP may well say yes.
TECHNICAL_DECLINES: Final = ("processing_error",)
WAIT_MAX_SECONDS: Final = 30 * int(DAY)
TRY_SECONDS_MAX: Final = 60.0
# A breaker that stays open for longer is a PSP that is switched off, which a rule does better.
BREAKER_SECONDS_MAX: Final = HOUR


class WrongTuning(GuilderError):
    """The file says something that makes no sense; the message names the place."""


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a connector waits. docs/howto/timeouts.md tells how to choose them from what was measured.

    Args:
        connect_seconds: to connect, and again to sign on. Three lost SYN packets take more; a healthy PSP 100 ms.
        read_seconds: from the request's last byte to the answer. Issuers answer in well under a second; past this the buyer
            has gone, and the attempt is settled by asking. Raising it only holds room in the bulkhead.
        queue_seconds: for a connection that is being made, or a peer that takes no bytes, before "not sent".
        total_seconds: from the moment an order is handed over to its outcome, whatever it waited for in between.
    """

    connect_seconds: float = 2.0
    read_seconds: float = 8.0
    queue_seconds: float = 3.0
    total_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what could never be meant (ValueError)."""
        for name in ("connect_seconds", "read_seconds", "queue_seconds", "total_seconds"):
            if not 0 < getattr(self, name) <= TRY_SECONDS_MAX:
                raise ValueError(f"{name} must be above 0 and at most {TRY_SECONDS_MAX:.0f}")
        if self.total_seconds < max(self.read_seconds, self.queue_seconds):
            raise ValueError("total_seconds must not be shorter than read_seconds or queue_seconds")


class Breaking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a breaker opens (at least so many failures, and at least half of a window's outcomes) and for how long.

    Args:
        window_seconds: outcomes are counted in windows of this length: long enough for a small merchant to show a trend,
            short enough that an outage is seen within it.
        failures_min: fewer never open it: one lost answer is no outage.
        cool_down_seconds: how long an open breaker refuses everything: an answer timeout's order of magnitude.
        probe_interval_seconds: after the cool-down, one request in so long goes through until one succeeds.
    """

    window_seconds: float = 10.0
    failures_min: int = 20
    cool_down_seconds: float = 5.0
    probe_interval_seconds: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what could never be meant (ValueError)."""
        for name in ("window_seconds", "cool_down_seconds", "probe_interval_seconds"):
            if not 0 <= getattr(self, name) <= BREAKER_SECONDS_MAX:
                raise ValueError(f"{name} must lie between 0 and {BREAKER_SECONDS_MAX:.0f}")
        if self.failures_min < 1:
            raise ValueError("failures_min must be at least 1")


class Bulkhead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many orders one connector may have under way, from submit to delivery, so that a slow PSP starves nobody.

    Args:
        payments_max: 8 s of silence at 250 payments/s; a healthy bank at 10,000/s needs 200.
        recovery_max: the same for queries, reversals and voids, which are needed most when payments are stuck.
    """

    payments_max: int = 2_000
    recovery_max: int = 1_000

    def __post_init__(self) -> None:
        """Refuse what could never be meant (ValueError)."""
        if self.payments_max < 1 or self.recovery_max < 1:
            raise ValueError("payments_max and recovery_max must be at least 1")


class ConnectorTuning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of one connector.

    Args:
        retry: the policies that differ for it, by name.
        address: HOST:PORT of another acquirer that speaks as the sandbox's does: makes this a connector of its own, asked after
            those before it in the file. None for a connector that Guilder brings.
        psp_merchant: our merchant's id there.
    """

    timeouts: Timeouts = Timeouts()
    breaker: Breaking = Breaking()
    bulkhead: Bulkhead = Bulkhead()
    retry: Mapping[str, Mapping[str, Any]] = {}
    address: str | None = None
    psp_merchant: str = "GUILDERSANDBOX1"

    def __post_init__(self) -> None:
        """Refuse what could never be meant (ValueError)."""
        if self.address is not None:
            _host_port(self.address)

    @property
    def host_port(self) -> tuple[str, int]:
        """The address in its parts. Raises ValueError when there is none."""
        return _host_port(self.address or "")


class Fallback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to a payment whose PSP is down; each is off unless it stands in the file.

    Args:
        next_connector: a payment of which nothing was sent goes on at the next connector that takes it.
        declines: declines after which it does so too: they say something of the way and nothing of the card.
        wait_seconds: how long a payment without a buyer (`off_session`) may wait for a PSP to come back; None for not at all.
        wait_seconds_of: the same for single merchants, by their account.
    """

    next_connector: bool = False
    declines: tuple[str, ...] = TECHNICAL_DECLINES
    wait_seconds: int | None = None
    wait_seconds_of: Mapping[str, int] = {}

    def __post_init__(self) -> None:
        """Refuse what could never be meant (ValueError)."""
        for seconds in (self.wait_seconds, *self.wait_seconds_of.values()):
            if seconds is not None and not 1 <= seconds <= WAIT_MAX_SECONDS:
                raise ValueError(f"a payment may wait for 1 to {WAIT_MAX_SECONDS} seconds")

    def waits(self, account: str) -> int | None:
        """How many seconds a payment of this merchant may wait; None for not at all."""
        return self.wait_seconds_of.get(account, self.wait_seconds)


class RiskTuning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The external risk service, which is asked before a payment is sent; none unless `url` is set.

    Args:
        secret: sent as a bearer token; never printed.
        timeout_seconds: for one question. A buyer waits, and a rule engine that needs longer is not well.
        pass_up_to: minor units by currency; up to here a payment passes when the service does not answer.
        breaker: when it is not asked any more for a while; the fallback then decides at once, and no buyer waits.
        larger: what larger ones do then: `wait` until it answers (no longer than they may be sent), or `refuse`.
    """

    url: str | None = None
    secret: str | None = None
    timeout_seconds: float = 1.0
    breaker: Breaking = Breaking()
    pass_up_to: Mapping[str, int] = {}
    larger: Literal["wait", "refuse"] = "refuse"

    def __repr__(self) -> str:
        """Without the secret, which may stand in the address, too."""
        return f"RiskTuning(timeout_seconds={self.timeout_seconds}, pass_up_to={self.pass_up_to}, larger={self.larger!r})"

    def __post_init__(self) -> None:
        """Refuse what could never be meant (ValueError)."""
        if self.url is not None and urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError("url must begin with http:// or https://")
        if not 0 < self.timeout_seconds <= TRY_SECONDS_MAX:
            raise ValueError(f"timeout_seconds must be above 0 and at most {TRY_SECONDS_MAX:.0f}")


class Tuning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. The file's tables have the names of the fields."""

    retry: Mapping[str, Mapping[str, Any]] = {}
    connectors: Mapping[str, ConnectorTuning] = {}
    fallback: Fallback = Fallback()
    risk: RiskTuning = RiskTuning()

    @classmethod
    def read(cls, path: Path | None) -> "Tuning":
        """What the file says; the defaults without one. Raises WrongTuning."""
        if path is None:
            return cls()
        try:
            return cls.of(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
            raise WrongTuning(f"{path} cannot be read: {error}") from error
        except WrongTuning as error:
            raise WrongTuning(f"{path}: {error}") from error

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Tuning":
        """The same from what such a file holds. Raises WrongTuning."""
        try:
            found = msgspec.convert(content, cls)
        except msgspec.ValidationError as error:
            raise WrongTuning(_with_place(error, content)) from error
        for name in found.retry:
            found.policy(name)
        for connector, said in found.connectors.items():
            if connector not in BROUGHT and said.address is None:
                raise WrongTuning(f"connectors.{connector} has no address; without one there are {', '.join(BROUGHT)}")
            if connector in BROUGHT and said.address is not None:
                raise WrongTuning(f"connectors.{connector} can have no address: Guilder brings it")
            for name in said.retry:
                if name in RETRIES and name not in OF_CONNECTORS:
                    raise WrongTuning(f"connectors.{connector}.retry.{name} belongs to no connector; set retry.{name}")
                if (connector if connector in BROUGHT else BROUGHT[0], name) in NOT_TRIED:
                    raise WrongTuning(f"connectors.{connector}.retry.{name} would change nothing: {connector} never does that")
                found.policy(name, connector)
        return found

    def connector(self, name: str) -> ConnectorTuning:
        """What holds for a connector."""
        return self.connectors.get(name) or ConnectorTuning()

    @property
    def added(self) -> tuple[str, ...]:
        """The connectors that the file adds: to other banks than the sandbox's."""
        return tuple(name for name in self.connectors if name not in BROUGHT)

    def policy(self, name: str, connector: str | None = None) -> Retry:
        """The policy of this name, with what the file says of it in general and for the connector. Raises WrongTuning."""
        default = RETRIES.get(name)
        if default is None:
            raise WrongTuning(f"there is no retry policy {name}; there are {', '.join(RETRIES)}")
        said, place = {**self.retry.get(name, {})}, f"retry.{name}"
        if connector is not None and name in self.connector(connector).retry:
            said |= self.connector(connector).retry[name]
            place = f"connectors.{connector}.{place}"
        try:
            policy = msgspec.convert(msgspec.to_builtins(default) | said, Retry)
        except msgspec.ValidationError as error:
            raise WrongTuning(_with_place(error, said, place)) from error
        if name in NEVER_DROPPED and (policy.attempts_max, policy.elapsed_max_seconds, policy.hopeless) != (None, None, frozenset()):
            raise WrongTuning(f"{place} can have no attempts_max, elapsed_max_seconds or hopeless: it goes on until it is settled")
        if name == "psp-resend" and policy.kind is not Kind.IMMEDIATE:
            raise WrongTuning(f"{place} is immediate: it follows the answer of a query, which has the waits (psp-query)")
        if name not in BUDGETED and policy.budget_share is not None:
            raise WrongTuning(f"{place} can have no budget_share; {', '.join(sorted(BUDGETED))} can")
        return policy


def _with_place(error: msgspec.ValidationError, content: Mapping[str, Any], below: str = "") -> str:
    """What msgspec says, behind the place in the file, in which msgspec writes [...] for whatever name stands in a table of names."""
    what, _, path = str(error).partition(" - at `$")
    steps = re.findall(r"\[[^\]]*\]|[^.\[\]`]+", path)
    for number, step in enumerate(steps):
        if step == "[...]" and isinstance(_at(content, steps[:number]), Mapping):
            steps[number] = next((name for name in _at(content, steps[:number]) if _fails(content, [*steps[:number], name])), step)
    place = "".join(step if step.startswith("[") else f".{step}" for step in steps)
    return f"{(below + place).removeprefix('.')}: {what}" if below or place else what


def _at(content: Mapping[str, Any], steps: Sequence[str]) -> Any:
    """What stands at the end of these steps."""
    found: Any = content
    for step in steps:
        found = found[step]
    return found


def _fails(content: Mapping[str, Any], steps: Sequence[str]) -> bool:
    """Whether what stands at the end of these steps is refused, with nothing else in the file."""
    alone: Any = _at(content, steps)
    for step in reversed(steps):
        alone = {step: alone}
    try:
        msgspec.convert(alone, Tuning)
    except msgspec.ValidationError:
        return True
    return False


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:
        raise ValueError("address must be HOST:PORT")
    return host.strip("[]"), int(port)
