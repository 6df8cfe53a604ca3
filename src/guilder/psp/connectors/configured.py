"""The connectors of an installation: the sandbox's, and those that the configuration file adds."""

from collections.abc import Sequence

from msgspec import Struct

from guilder.config import Settings
from guilder.core.clock import Clock
from guilder.core.ids import Ids
from guilder.psp.connectors.cardnet import DECLARES, NAME, Cardnet, CardnetSettings, Limits, RevealCards
from guilder.psp.measure import Measures
from guilder.psp.model import Connector, Late, Recorder
from guilder.psp.router import Route
from guilder.tuning import ConnectorTuning


class Configured(Struct, frozen=True):
    """A connector and what is measured of it."""

    connector: Connector
    measures: Measures


def routes(settings: Settings) -> list[Route]:
    """The ways to them, in the order of preference: the sandbox's own first, then as the file has them."""
    found = [(NAME, settings.tuning.connector(NAME)), *_added(settings)]
    return [Route(connector=name, psp_merchant=said.psp_merchant, livemode=False, declares=DECLARES) for name, said in found]


def connectors(
    settings: Settings, *, reveal: RevealCards, clock: Clock, ids: Ids, late: Late, recorder: Recorder,
) -> Sequence[Configured]:  # fmt: skip
    """All of them, not started yet."""
    places = {NAME: (settings.network_host, settings.ports.network_iso)} | {name: said.host_port for name, said in _added(settings)}
    made = []
    for name, (host, port) in places.items():
        measures = Measures(name)
        connector = Cardnet(
            CardnetSettings(host=host, port=port), reveal=reveal, clock=clock, late=late, recorder=recorder, name=name,
            measures=measures, limits=Limits.of(settings.tuning, name), uniform=ids.uniform,
        )  # fmt: skip
        made.append(Configured(connector, measures))
    return made


def _added(settings: Settings) -> list[tuple[str, ConnectorTuning]]:
    return [(name, settings.tuning.connector(name)) for name in settings.tuning.added]
