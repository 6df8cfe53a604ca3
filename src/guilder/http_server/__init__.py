"""HTTP/1.1 on a listening socket, by httptools and uvloop: what a request and its answer are, and everything about their bytes.

One application answers `Incoming` with `Outgoing`. Framing, order, limits, deadlines and the end of a connection are
decided here and nowhere else (docs/adr/0015-http-is-served-by-a-protocol-of-our-own.md).

Owns:       no table; the connections of a listening socket.
Announces:  nothing.
May import: core.
Start with: model.py, then connection.py.
"""

from guilder.http_server.model import App, HungUpError, Incoming, Outgoing
from guilder.http_server.server import serve_http

__all__ = ["App", "HungUpError", "Incoming", "Outgoing", "serve_http"]
