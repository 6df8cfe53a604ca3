"""The vault: the only place where card numbers and CVCs are, behind a socket that takes lists.

Owns:       tables vault_key, vault_card; the socket DATA/run/vault.sock; CVCs, in the memory of its process only.
Announces:  nothing.
May import: db, security, config, shapes, core.
Start with: model.py, then service.py.

Everyone else sees a card by its PaymentMethod's id and what CardFacts holds. Only connectors reveal a number.
"""

from guilder.vault.client import VaultClient
from guilder.vault.model import Amendment, Card, CardEntry, CardRefused, Reveal
from guilder.vault.rules import check_cvc, check_expiry, check_number, full_year, refusal
from guilder.vault.server import VaultServer, listen
from guilder.vault.service import Vault

__all__ = [
    "Amendment",
    "Card",
    "CardEntry",
    "CardRefused",
    "Reveal",
    "Vault",
    "VaultClient",
    "VaultServer",
    "check_cvc",
    "check_expiry",
    "check_number",
    "full_year",
    "listen",
    "refusal",
]
