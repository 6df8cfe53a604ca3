"""Bytes of a connection to the bodies of frames."""

from typing import Final

from guilder.iso8583.errors import FrameError
from guilder.iso8583.fields import BODY_MAX, BODY_MIN

_HEADER: Final = 2


class FrameReader:
    """Collects what one connection delivers and gives back whole bodies, however the bytes were cut.

    Nothing is lost before the first bad length: `feed` returns the whole bodies in front of it and only then sets
    `broken`, after which the stream cannot be read any further and the connection is to be closed.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.broken: FrameError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes; return the bodies that are now complete, in order."""
        if self.broken:
            return []
        buffer = self._rest + data if self._rest else data
        bodies = []
        at, end = 0, len(buffer)
        while end - at >= _HEADER:
            length = buffer[at] << 8 | buffer[at + 1]
            if not BODY_MIN <= length <= BODY_MAX:
                self.broken = FrameError("a frame announces an impossible length")
                break
            start = at + _HEADER
            if end - start < length:
                break
            at = start + length
            bodies.append(buffer[start:at])
        self._rest = buffer[at:]
        return bodies

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are held; more than zero at the end of a connection is a cut frame."""
        return len(self._rest)
