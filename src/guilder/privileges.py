"""What our processes may do on the machine: whose rights they have, and that they can never gain any (docs/adr/0016).

`take_on` makes root into the user whose data it is, before anything is opened. `confine` is the last thing that happens to a
process before it serves: no program that it starts can have more rights than it has, and root is left without its powers.
"""

import ctypes
import os
import pwd
from pathlib import Path
from typing import Final

from guilder.core.errors import GuilderError

PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
# capset(2): two sets of 32 bits, effective, permitted and inheritable of each.
CAPABILITY_VERSION_3: Final = 0x20080522
CAPABILITY_WORDS: Final = 6
# Above any that a kernel knows.
CAPABILITIES_MAX: Final = 64


class WrongUser(GuilderError):
    """We cannot run as this user; the message says why and what would help."""


def confine() -> None:
    """Give up every capability for ever, and the right to gain any by starting a program. For an ordinary user only the latter.

    Root keeps what it owns: files of other users that their owners keep to themselves it reads no more.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if os.geteuid() == 0:
        for number in range(CAPABILITIES_MAX):
            if libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
                # Refused to a root that may not change its set; emptying the others below needs no right.
                libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        _call(libc.capset(header, (ctypes.c_uint32 * CAPABILITY_WORDS)()), "capabilities")


def _call(result: int, what: str) -> None:
    if result != 0:
        raise WrongUser(f"cannot give up {what}: {os.strerror(ctypes.get_errno())}")


def take_on(data: Path, name: str | None) -> None:
    """As root, go on as the user called `name`, whose the data then is; without a name as the owner of the data.

    For anybody else, and for root on data of its own, nothing changes. Raises WrongUser.
    """
    if os.geteuid() != 0:
        if name is not None and name != pwd.getpwuid(os.geteuid()).pw_name:
            raise WrongUser(f"only root can start Guilder as {name}; leave --user out, or start it as root")
        return
    owner = data.stat().st_uid if data.exists() else 0
    if name is None and owner == 0:
        return
    user = _user(name, owner)
    if owner not in (0, user.pw_uid):
        raise WrongUser(f"{data} belongs to another user than {user.pw_name}; name its owner, or another folder with --data")
    if owner == 0 and user.pw_uid != 0:
        _give(data, user)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    _must_reach(data, user.pw_name)


def _user(name: str | None, owner: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(owner) if name is None else pwd.getpwnam(name)
    except KeyError:
        raise WrongUser(f"there is no user {owner if name is None else name} on this machine") from None


def _give(data: Path, user: pwd.struct_passwd) -> None:
    """The data folder and all that root has put into it. It was root's alone until now, so nobody can have laid a link into it."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder, _, files in os.walk(data, topdown=False):
        for path in (*(Path(folder, name) for name in files), Path(folder)):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _must_reach(data: Path, name: str) -> None:
    """Both the data and this program: a Python below a home of root's is out of an ordinary user's reach."""
    for path, rights in ((data, os.R_OK | os.W_OK | os.X_OK), (Path(__file__), os.R_OK), (Path(os.__file__), os.R_OK)):
        if not os.access(path, rights):
            raise WrongUser(
                f"the user {name} cannot reach {path}; every folder above it must be open to that user (chmod o+x), "
                "or lie elsewhere",
            )
