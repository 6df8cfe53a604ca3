"""The sandbox bank world: acquirer, card scheme and issuers in a process of their own, with a memory of their own.

It is the witness against which our books are checked, so it shares no table and no code path with the rest, save the
language that both ends speak (iso8583), and has its own currency table.

Owns:       its truth file (no table): every operation, written and synced before its answer leaves.
Announces:  nothing; `GET /truth` on the control port tells what really happened.
May import: iso8583, security, config, core.
Start with: decide.py (what each message does), then books.py, acquirer.py, serve.py; web has the second face, JSON over HTTP.
"""

from guilder.network.serve import Addresses, NetworkSettings, serve
from guilder.network.web import WebMerchant, read_merchant

__all__ = ["Addresses", "NetworkSettings", "WebMerchant", "read_merchant", "serve"]
