"""The web PSP: the bank world's second face, as modern PSPs have it. JSON over HTTP in front, the same scheme and issuers behind.

Each request becomes the message that any acquirer would send to the scheme, so its effects stand in the same truth. Its
acquirer's code is its own, so it never sees another acquirer's operations.

Owns:       its part of the truth file (pages that were opened and ended); keys and notifications in memory.
Announces:  notifications over HTTP: signed, sometimes twice, late or in another order.
May import: network, iso8583, core.
Start with: desk.py; requests.py and answers.py are pure; page.py is the form that buyers fill in; docs/webpsp.md is the contract.
"""

from guilder.network.web.desk import WEB, Desk
from guilder.network.web.merchant import WebMerchant, read_merchant

__all__ = ["WEB", "Desk", "WebMerchant", "read_merchant"]
