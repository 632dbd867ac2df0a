"""As whom a server runs that refuses root: Postgres."""

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
    """How a child process looks to itself and to the files.

    same: as the parent. namespace: as uid and gid to itself, as the parent to the files, by a user namespace.
    drop: as uid and gid to both, with the right to pass through closed folders if the parent has it.
    """

    way: Literal["same", "namespace", "drop"]
    uid: int = 0
    gid: int = 0


SAME = Identity("same")


def unprivileged_identity(obstacle: Callable[[Identity], str | None]) -> Identity:
    """The first identity that is not root, has a name in the passwd file, and meets no obstacle.

    A normal user is taken as it is. root, and a uid without a name (a container started with `--user 12345`),
    get a user namespace: it needs no chown and passes the same folders as before. Where containers forbid
    it, root becomes `nobody`. Raises ServiceStartError if none of them works.
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
    """Give the folder and all in it to the user that the files will see; only root can and needs to."""
    if os.geteuid() != 0:
        return
    uid, gid = (identity.uid, identity.gid) if identity.way == "drop" else (0, 0)
    if folder.stat().st_uid == uid:
        return
    for path in (*folder.rglob("*"), folder):  # the folder last: it tells whether the walk was finished
        os.lchown(path, uid, gid)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _named_user() -> pwd.struct_passwd:
    """`nobody`, or the first user that is not root."""
    entries = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    for entry in entries:
        if entry.pw_name == "nobody":
            return entry
    if not entries:
        raise ServiceStartError(
            "Postgres cannot run here: /etc/passwd has no user but root. Add one, or set PRESSROOM_DB_URL"
        )
    return entries[0]
