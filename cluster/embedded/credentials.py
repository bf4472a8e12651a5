"""Running a child under another user than root, without opening any directory to that user."""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Callable

UNPRIVILEGED = "nobody"
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def unprivileged_ids() -> tuple[int, int]:
    """(uid, gid) that owns the files of servers which refuse to run as root; our own when we are not root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    entry = pwd.getpwnam(UNPRIVILEGED)
    return entry.pw_uid, entry.pw_gid


def drop_root() -> None:
    """Becomes the unprivileged user but keeps CAP_DAC_OVERRIDE, across exec too. For use between fork and exec.

    PostgreSQL refuses to run as root. Under a plain second user every directory above its data and binaries would
    have to be opened to others (a checkout below /root, a mode 0700 temporary directory); the capability spares that.
    """
    if os.geteuid() != 0:
        return
    uid, gid = unprivileged_ids()
    _checked(_LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    bit = 1 << _CAP_DAC_OVERRIDE
    data = (_Data * 2)(_Data(bit, bit, bit), _Data(0, 0, 0))
    _checked(_LIBC.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), data), "capset")
    _checked(_LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0), "PR_CAP_AMBIENT_RAISE")


def die_with_parent(death_signal: int, *, unprivileged: bool = False, niceness: int = 0) -> Callable[[], None]:
    """A ``preexec_fn``: the child gets ``death_signal`` when the *thread* that started it ends.

    Start such children from a thread that lives as long as they should, usually the main thread.
    """
    parent = os.getpid()

    def prepare() -> None:
        os.nice(niceness)
        if unprivileged:
            drop_root()
        # After the change of user, which clears it.
        _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0), "PR_SET_PDEATHSIG")
        if os.getppid() != parent:
            os._exit(1)

    return prepare
