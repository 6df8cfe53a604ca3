"""webpsp: the connector to the web PSP, JSON over HTTP (docs/webpsp.md).

Owns:       two pools of HTTP connections: one for payments, one for the questions and reversals that settle them.
Announces:  nothing.
May import: psp.model, psp.measure, vault, tuning, security, core.
Start with: connector.py; requests.py, answers.py and notifications.py are pure; wire.py has the connections.
"""

from guilder.psp.connectors.webpsp.connector import DECLARES, NAME, Webpsp
from guilder.psp.connectors.webpsp.notifications import notification_reader
from guilder.psp.connectors.webpsp.settings import Limits, WebpspSettings

__all__ = ["DECLARES", "NAME", "Limits", "Webpsp", "WebpspSettings", "notification_reader"]
