"""Every limit of a connection. Waits are in real time."""

from typing import Final

# 300 payments a second whose PSP is slow, each of which is waited for 10 s, and some more. One of them is some kilobytes. Who comes
# beyond it gets a 503.
CONNECTIONS_MAX: Final = 4_000
# Open files that a process needs for its pools and its log: of 1,024, which it usually has where the supervisor could not raise that,
# 900 may be connections.
FILES_KEPT: Final = 124
# Connections beyond that which are kept for a moment, so that their 503 arrives; who comes even later is cut off.
REFUSED_MAX: Final = 64

# The address and all headers; also a trailer, and the extensions of a chunk. SDKs send below 2 kB; browsers with their
# cookies stay below 16.
HEAD_BYTES_MAX: Final = 64 * 1024
# The longest address of ours is a list with every filter, below 2 kB.
URL_BYTES_MAX: Final = 8 * 1024
# SDKs send about 15, browsers and two proxies about 30.
HEADERS_MAX: Final = 100

# What is parsed at once. It bounds how many requests of a client that does not wait for its answers stand in memory:
# reading stops as soon as one waits behind another.
PIECE_BYTES: Final = 16 * 1024
# What is kept of a body for which nobody has asked yet: its sender may turn out not to be a caller at all.
UNASKED_BYTES_MAX: Final = 64 * 1024
# What is read of a body that is refused, so that its sender gets to see the refusal: a connection that is closed on
# unread bytes is reset.
DRAIN_BYTES_MAX: Final = 32 * 1024 * 1024

# Longest for the first request, and for a head from its first byte on: it is one packet.
HEAD_SECONDS: Final = 20.0
# Longest that we wait for a body to arrive: ten times what a phone on a bad line needs.
BODY_SECONDS: Final = 30.0
# An idle connection is kept longer than clients keep theirs, so that it is the client who closes: a request that meets
# a closing connection is lost, and its sender cannot know.
IDLE_SECONDS: Final = 75.0
# Longest that a client may leave its answers unread.
WRITE_SECONDS: Final = 30.0
# Longest between our last answer and the end of a connection on which its client still writes.
LINGER_SECONDS: Final = 5.0
# How often all connections are looked at for those past their time; it is also how old a `Date` can be.
SWEEP_SECONDS: Final = 1.0
# After the word to stop, running requests get so long to be answered; the supervisor waits little longer.
GRACE_SECONDS: Final = 1.0
# New connections that wait in the kernel.
BACKLOG: Final = 1024
