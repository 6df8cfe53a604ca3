"""cardnet: the connector to a card acquirer that speaks ISO 8583 over TCP (docs/iso8583.md).

Owns:       two TCP connections: one for payments, one for the questions and reversals that settle them.
Announces:  nothing.
May import: psp.model, breaker, vault, iso8583, core.
Start with: connector.py; requests.py and answers.py are pure; lane.py has the orders under way; link.py, connection.py the wire.
"""

from guilder.psp.connectors.cardnet.connector import DECLARES, NAME, Cardnet
from guilder.psp.connectors.cardnet.settings import CardnetSettings, Limits

__all__ = ["DECLARES", "NAME", "Cardnet", "CardnetSettings", "Limits"]
