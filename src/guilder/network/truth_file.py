"""The truth file: lines are appended, synced, and only then may anybody hear of them. Nothing is ever changed in it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from guilder.network.errors import TruthInUse, TruthNotDurable, TruthUnreadable

FILE_NAME: Final = "truth.jsonl"
# How much is read at a time: large enough to make the calls cheap, small enough not to be noticed.
READ_SIZE: Final = 256 * 1024
# A write that fails for these reasons may work later: the disk is full, or the quota is.
_MAY_PASS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class TruthFile:
    """One open truth file, held by a lock so that no second process can write it.

    `append` only collects; `sync` writes and syncs what was collected. `size` is how far the file is durable.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        self.size = 0
        self._lines: list[bytes] = []
        self._waiting = b""
        self._failed = False

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open or create the file in a folder. Raises TruthInUse. Call `recover` next."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / FILE_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise TruthInUse(f"another process holds {path}") from None
        _sync_folder(folder)
        return cls(descriptor, path)

    def recover(self) -> Iterator[bytes]:
        """The lines of the file, in order, without their ends; a last line that was cut off is removed from the file.

        Such a line was never synced whole, so nobody has heard of it.
        """
        whole = 0
        for line in read_lines(self.path, os.fstat(self._descriptor).st_size):
            whole += len(line) + 1
            yield line
        os.ftruncate(self._descriptor, whole)
        self._sync()
        self.size = whole

    def append(self, line: bytes) -> None:
        """Collect a line, without its end, for the next `sync`."""
        self._lines.append(line)

    def sync(self) -> bool:
        """Write and sync what was collected. False: the disk is full, nothing is lost, try again later.

        Raises TruthNotDurable when the disk fails in another way, and from then on always.
        """
        if self._failed:
            raise TruthNotDurable("the truth file has failed before")
        if self._lines:
            self._waiting += b"\n".join(self._lines) + b"\n"
            self._lines.clear()
        if not self._waiting:
            return True
        try:
            while self._waiting:
                written = os.write(self._descriptor, self._waiting)
                self._waiting = self._waiting[written:]
                self.size += written
        except OSError as error:
            if error.errno in _MAY_PASS:
                return False
            self._failed = True
            raise TruthNotDurable(f"writing the truth failed: {error.strerror}") from error
        self._sync()
        return True

    def close(self) -> None:
        """Close the file; what was not synced is not in it."""
        os.close(self._descriptor)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # A second try may succeed although the pages are lost, so there is none.
            self._failed = True
            raise TruthNotDurable(f"syncing the truth failed: {error.strerror}") from error


def read_lines(path: Path, size: int) -> Iterator[bytes]:
    """The whole lines among the first `size` bytes of a truth file, without their ends."""
    rest = b""
    with path.open("rb") as file:
        while size > 0:
            chunk = file.read(min(READ_SIZE, size))
            if not chunk:
                raise TruthUnreadable(f"{path} is shorter than it was")
            size -= len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def _sync_folder(folder: Path) -> None:
    """Make the file's name durable too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
