"""Where webhooks may go: rules for addresses as they are written, and for addresses as they are connected to. Pure.

A receiver's address is the merchant's to choose, and our processes stand where a merchant must not reach: beside a database,
a bank's link, a cloud's metadata service. So what counts is the numeric address at the moment of connecting
(`Allowed.refuses`); the look at the written one (`check_url`) only says early what could never work.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from guilder.core.errors import Refusal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARACTERS_MAX: Final = 2_048
# Below this are the ports of services that were there before the web, and of nobody's receiver.
PORT_UNPRIVILEGED: Final = 1_024
WEB_PORTS: Final = frozenset({80, 443})
# Above it: what takes orders without asking who gives them (Docker, Redis, Kafka, memcached, databases, etcd, Elasticsearch).
SERVICE_PORTS: Final = frozenset({
    1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 5432, 5672, 6379, 6443, 9042, 9092, 9200, 9300, 10250, 11211, 27017,
})  # fmt: skip

LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PRIVATE: Final = (*map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),)
# IPv6 addresses whose last 32 bits are the IPv4 address that is meant.
NAT64: Final = ip_network("64:ff9b::/96")
# Not private by every registry, and yet no way to a receiver: the shared space of carriers, where one cloud's metadata service
# stands too; NAT64 of local use; site-local; and the tunnels of old that end at an IPv4 address (compatible, 6to4, Teredo).
NEVER_PUBLIC: Final = (*map(ip_network, ("100.64.0.0/10", "64:ff9b:1::/48", "fec0::/10", "::/96", "2002::/16", "2001::/32")),)


class Allowed(Struct, frozen=True, kw_only=True):
    """What webhooks may reach beyond public addresses over TLS.

    Args:
        networks: networks that are allowed though they are not public.
        plain_http: whether http:// is.
    """

    networks: tuple[Network, ...] = ()
    plain_http: bool = False

    @classmethod
    def of(cls, setting: Sequence[str] | None, *, livemode: bool) -> "Allowed":
        """What a setting allows in a mode: `loopback`, `private`, `http`, `none` and networks; None for the default.

        The default is loopback and plain HTTP in test mode and nothing in live mode; what is set holds in both.
        """
        if setting is None:
            return cls() if livemode else cls(networks=LOOPBACK, plain_http=True)
        named = {"loopback": LOOPBACK, "private": PRIVATE, "http": (), "none": ()}
        networks = tuple(network for word in setting for network in (named[word] if word in named else (ip_network(word),)))
        return cls(networks=networks, plain_http="http" in setting)

    def refuses(self, address: str) -> str | None:
        """Why nothing may be sent to this numeric address, None when it may."""
        try:
            found = _meant(ip_address(address.partition("%")[0]))
        except ValueError:
            return f"{address[:64]} is no address"
        named = any(found in network for network in self.networks if network.version == found.version)
        return None if named or is_public(found) else f"{found} is not a public address"


def _meant(address: Address) -> Address:
    """Where packets to this address end: there, or at the IPv4 address that is written inside it."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public Internet, by the registries that Python knows and by our own list."""
    if any(address in network for network in NEVER_PUBLIC if network.version == address.version):
        return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local or address.is_loopback
    return address.is_global and not special


def check_url(url: str, allowed: Allowed) -> None:
    """Refuse an address to which nothing could ever be sent (400 url_invalid), and say why."""
    wrong = _wrong(url, allowed)
    if wrong is not None:
        raise Refusal(f"Invalid URL: {wrong}", code="url_invalid", param="url")


def _wrong(url: str, allowed: Allowed) -> str | None:
    if len(url) > URL_CHARACTERS_MAX:
        return f"an address has at most {URL_CHARACTERS_MAX} characters."
    if any(character <= " " or character in "\\\x7f" for character in url):
        return "an address has no blanks, control characters or backslashes."
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "it must be an absolute address such as https://example.com/webhooks."
    if parts.scheme not in ("http", "https") or not host:
        return "it must be an absolute address such as https://example.com/webhooks."
    if parts.scheme == "http" and not allowed.plain_http:
        return "it must begin with https://."
    return _wrong_part(parts, host, port or (443 if parts.scheme == "https" else 80), allowed)


def _wrong_part(parts: SplitResult, host: str, port: int, allowed: Allowed) -> str | None:
    if parts.username is not None or parts.password is not None:
        return "a user name or password in the address is not sent; receivers verify the signature."
    if parts.fragment:
        return "what follows a # is never sent."
    if (port < PORT_UNPRIVILEGED and port not in WEB_PORTS) or port in SERVICE_PORTS:
        return f"nothing is sent to port {port}."
    literal = numeric(host)
    why = allowed.refuses(literal) if literal is not None else None
    return None if why is None else f"{why}; nothing is sent to private, local or reserved networks."


def numeric(host: str) -> str | None:
    """The address that a host is by itself, in whatever way it is spelled (2130706433, 0x7f.1, 0177.0.0.1); None for a name."""
    if ":" in host:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    except (OSError, UnicodeEncodeError):
        return None
