"""The identity of the Postgres server, which refuses to run as root."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pressroom.embedded.errors import ServiceStartError


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a child process is, to itself and to the file system.

    same: the parent's user. namespace: uid and gid to itself but the parent's user to the file system, by a
    user namespace. drop: uid and gid to both, with the capability to pass through closed folders if the
    parent has it.
    """

    way: Literal["same", "namespace", "drop"]
    uid: int = 0
    gid: int = 0


SAME = Identity("same")


def unprivileged_identity(obstacle: Callable[[Identity], str | None]) -> Identity:
    """Return the first identity that is not root, has a name in the passwd file, and meets no obstacle.

    A normal user is kept. root, and a uid without a name (as in a container started with `--user 12345`), get
    a user namespace, which needs no chown and can pass through the same folders as before. If the container
    forbids namespaces, root becomes `nobody`. Raises ServiceStartError if no identity works.
    """
    uid = os.geteuid()
    if uid != 0 and _has_name(uid):
        return SAME
    nobody = _named_user()
    candidates = [Identity("namespace", nobody.pw_uid, nobody.pw_gid)]
    if uid == 0:
        candidates.append(Identity("drop", nobody.pw_uid, nobody.pw_gid))
    obstacles = []
    for candidate in candidates:
        found = obstacle(candidate)
        if found is None:
            return candidate
        obstacles.append(f"{candidate.way}: {found}")
    raise ServiceStartError(
        f"Postgres cannot run here as uid {uid}: it refuses root and unnamed users, this machine forbids "
        f"user namespaces, and user {nobody.pw_name!r} cannot reach Postgres' programs or data. Run as a "
        "normal user, or set PRESSROOM_HOME to a folder that others may enter, or set PRESSROOM_DB_URL to a "
        "server of your own. What was tried:\n" + "\n".join(obstacles)
    )


def own_folder(folder: Path, identity: Identity) -> None:
    """Give the folder and its contents to the user that the server is to the file system.

    Only root can do this, and only root needs to.
    """
    if os.geteuid() != 0:
        return
    uid, gid = (identity.uid, identity.gid) if identity.way == "drop" else (0, 0)
    if folder.stat().st_uid == uid:
        return
    for path in (*folder.rglob("*"), folder):  # the folder last, as it shows whether the walk was completed
        os.lchown(path, uid, gid)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _named_user() -> pwd.struct_passwd:
    """Return the user `nobody`, or else the first user that is not root."""
    entries = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    for entry in entries:
        if entry.pw_name == "nobody":
            return entry
    if not entries:
        raise ServiceStartError(
            "Postgres cannot run here: /etc/passwd has no user but root. Add one, or set PRESSROOM_DB_URL"
        )
    return entries[0]
