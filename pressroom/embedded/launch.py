"""Turns its own process into a server: changes the identity, sets the death signal, and calls exec.

process.py runs this file as a script. There are two alternatives, and neither works here: subprocess's
preexec_fn runs Python between fork and exec, which can deadlock in a program with threads (Python
documentation, subprocess.Popen), and util-linux's setpriv is missing in minimal images. The script uses only
the standard library, so that it starts in 20 ms without site-packages.

Arguments: PARENT_PID DEATH_SIGNAL IDENTITY UID GID FOLDER COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CLONE_NEWUSER = 0x10000000
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
"""CAP_DAC_OVERRIDE and the numbers above are from linux/prctl.h, linux/sched.h and linux/capability.h."""


def main(arguments: list[str]) -> None:
    """Change the identity, set the signal to receive when the parent dies, and exec the command."""
    parent_pid, death_signal, identity, uid, gid, folder, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if identity == "namespace":
        _enter_user_namespace(libc, int(uid), int(gid))
    elif identity == "drop":
        _drop_to(libc, int(uid), int(gid))
    os.chdir(folder)
    # This must follow the change of credentials, which clears the death signal (prctl(2)).
    _check(libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0), "prctl")
    if os.getppid() != int(parent_pid):
        sys.exit("the starting process has ended")  # it ended before the death signal was set
    os.execv(command[0], command)  # noqa: S606 - no shell is needed


def _enter_user_namespace(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Become uid and gid in a new namespace; the file system sees the same user (user_namespaces(7))."""
    real_uid, real_gid = os.geteuid(), os.getegid()
    _check(libc.unshare(CLONE_NEWUSER), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {real_uid} 1")
    _write("/proc/self/gid_map", f"{gid} {real_gid} 1")


def _drop_to(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Become uid and gid permanently; keep only the capability to enter closed folders, if it is present."""
    os.setgroups([])
    os.setgid(gid)
    _check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setuid(uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_OVERRIDE
    only_search = (ctypes.c_uint32 * 6)(
        bit, bit, bit, 0, 0, 0
    )  # effective, permitted, inheritable: first the low, then the high words
    if libc.capset(header, only_search) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
    else:  # the container has removed the capability, so the folders must be open to others
        _check(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def _write(path: str, text: str) -> None:
    """Write a file without open(), which may load a codec from files that the new identity cannot read."""
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def _check(result: int, name: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


if __name__ == "__main__":
    main(sys.argv[1:])
