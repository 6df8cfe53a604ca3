"""The connectors of an installation: the sandbox's, and those that the configuration file adds; and how one is chosen for a payment."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from guilder.config import Settings
from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.psp.connectors import cardnet, webpsp
from guilder.psp.connectors.cardnet import Cardnet, CardnetSettings
from guilder.psp.connectors.shared import RevealCards
from guilder.psp.connectors.webpsp import Webpsp, WebpspSettings, notification_reader
from guilder.psp.measure import Measures
from guilder.psp.model import Connector, Declares, Late, ReadNotification, Recorder
from guilder.psp.router import Route, Rule
from guilder.psp.rules import WrongRules, read_rules
from guilder.security import Secret
from guilder.tuning import BROUGHT, Tuning

DECLARED: Final[Mapping[str, Declares]] = {cardnet.NAME: cardnet.DECLARES, webpsp.NAME: webpsp.DECLARES}
"""What the connectors declare that Guilder brings; those that are added speak as cardnet does."""


class Configured(Struct, frozen=True):
    """A connector and what is measured of it."""

    connector: Connector
    measures: Measures


def names(tuning: Tuning) -> Sequence[str]:
    """All connectors, in the order of preference where no rule says otherwise: cardnet, those that the file adds, webpsp."""
    first, *others = BROUGHT
    return (first, *tuning.added, *others)


def routes(settings: Settings) -> list[Route]:
    """The ways to them, in that order."""
    tuning = settings.tuning
    return [
        Route(
            connector=name, psp_merchant=tuning.connector(name).psp_merchant, livemode=False,
            declares=DECLARED.get(name, cardnet.DECLARES),
        ) for name in names(tuning)
    ]  # fmt: skip


def rules(settings: Settings) -> tuple[Rule, ...]:
    """The operator's rules by which one of them is chosen; none without a file. Raises WrongRules."""
    if settings.routes_file is None:
        return ()
    try:
        text = settings.routes_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRules(f"the routing rules (GUILDER_ROUTES) cannot be read from {settings.routes_file}: {error}") from None
    return read_rules(text, routes(settings))


def connectors(
    settings: Settings, *, web_key: Secret, reveal: RevealCards, clock: Clock, ids: Ids, late: Late, recorder: Recorder,
) -> Sequence[Configured]:  # fmt: skip
    """All of them, not started yet. `web_key` is what webpsp knows us by."""
    tuning = settings.tuning

    def speaking_cardnet(name: str, host: str, port: int, measures: Measures) -> Connector:
        return Cardnet(
            CardnetSettings(host=host, port=port), reveal=reveal, clock=clock, late=late, recorder=recorder, name=name,
            measures=measures, limits=cardnet.Limits.of(tuning, name), uniform=ids.uniform,
        )  # fmt: skip

    def made(name: str, measures: Measures) -> Connector:
        if name == cardnet.NAME:
            return speaking_cardnet(name, settings.network_host, settings.ports.network_iso, measures)
        if name == webpsp.NAME:
            return Webpsp(
                WebpspSettings(url=settings.network_control, api_key=web_key), reveal=reveal, clock=clock, late=late, recorder=recorder,
                measures=measures, limits=webpsp.Limits.of(tuning, name),
            )  # fmt: skip
        return speaking_cardnet(name, *tuning.connector(name).host_port, measures)

    return [Configured(made(name, measures := Measures(name)), measures) for name in names(tuning)]


def notification_readers(signing_secret: Secret) -> Mapping[str, ReadNotification]:
    """How the notifications of each connector that sends some are read; webpsp signs its own with the secret."""
    return {webpsp.NAME: notification_reader(signing_secret)}
