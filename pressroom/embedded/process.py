"""Servers as child processes that end with their parent, however it ends, and write a log.

Postgres refuses to run as root, so a process may have a different identity from its parent.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from jobs.errors import ConfigurationError
from pressroom.embedded import launch

STOP_SECONDS = 30.0
"""Seconds that a server has to stop before it is killed.

Postgres writes a checkpoint before it ends, which takes seconds on a slow disk; if it is killed, it recovers
from its log at the next start.
"""
LEFTOVER_SECONDS = 15.0
"""Seconds to wait for a leftover server to end after SIGTERM, and again after SIGKILL.

A server whose parent was killed already has its death signal, and ends in well under a second when idle.
"""
MAX_LOG_BYTES = 10 * 1024 * 1024
"""Maximum size of a log in bytes; a larger one is set aside at the next start, and one such file is kept."""
TAIL_LINES = 12
"""Number of lines of the log quoted in an error message: enough for the cause, and still readable."""


class ServiceStartError(ConfigurationError):
    """A service did not start; the message ends with the tail of its log."""

    code = "service_start_failed"


class NotReadyError(Exception):
    """A service runs but does not answer yet; this error never leaves the package."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user as which a child process runs, in one of three ways.

    same: as the parent's user. namespace: in a user namespace, where the process sees itself as uid and gid,
    and the file system sees the parent's user. drop: as uid and gid, with the capability to enter closed
    folders if the parent has it.
    """

    way: Literal["same", "namespace", "drop"]
    uid: int = 0
    gid: int = 0


SAME = Identity("same")


def unprivileged_identity(obstacle: Callable[[Identity], str | None]) -> Identity:
    """Return the first identity that is not root, has a name in the passwd file, and works.

    `obstacle` returns the reason why an identity does not work. A normal user keeps its identity. root, and a
    uid without a name (as in a container started with `--user 12345`), get a user namespace, which needs no
    chown and can enter the same folders as before. If the container forbids namespaces, root becomes
    `nobody`. Raises ServiceStartError if no identity works.
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
        reason = obstacle(candidate)
        if reason is None:
            return candidate
        obstacles.append(f"{candidate.way}: {reason}")
    raise ServiceStartError(
        f"Postgres cannot run here as uid {uid}: it refuses root and unnamed users, this machine forbids "
        f"user namespaces, and user {nobody.pw_name!r} cannot reach Postgres' programs or data. Run as a "
        "normal user, or set PRESSROOM_HOME to a folder that others may enter, or set PRESSROOM_DB_URL to a "
        "server of your own. What was tried:\n" + "\n".join(obstacles)
    )


def own_folder(folder: Path, identity: Identity) -> None:
    """Give the folder and its contents to the user as which the server accesses files.

    Only root can and must do this; for other users the function does nothing.
    """
    if os.geteuid() != 0:
        return
    uid, gid = (identity.uid, identity.gid) if identity.way == "drop" else (0, 0)
    if folder.stat().st_uid == uid:
        return
    for path in (*folder.rglob("*"), folder):  # the folder last: its owner shows that all others are done
        os.lchown(path, uid, gid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to run, with its folder, environment and identity."""

    argv: tuple[str, ...]
    """Program and arguments; the first is the program's absolute path."""
    folder: Path
    """Working directory, which also distinguishes our servers from others of the same program."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """All environment variables except PATH and HOME; the user's RCLONE_* and PG* must not reach servers."""
    identity: Identity = SAME
    death_signal: signal.Signals = signal.SIGTERM
    """Signal that the kernel sends when the parent dies."""
    stop_signal: signal.Signals = signal.SIGTERM


class ServerProcess:
    """A running server in a separate session, so that Ctrl-C reaches only its parent.

    Main thread only: the kernel ties the death signal to the thread that spawned the child (prctl(2)).
    """

    def __init__(self, command: Command, log_path: Path) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "servers must be started from the main thread, because they die with the thread that "
                "starts them"
            )
        self._command = command
        self._log_path = log_path
        _set_aside(log_path)
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                _launch_argv(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(command),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Signal the server to stop, wait STOP_SECONDS, and kill it if it has not ended."""
        if self.is_running:
            self._process.send_signal(self._command.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """Return the last lines that this process wrote to the log."""
        with self._log_path.open("rb") as log:
            log.seek(self._log_start)
            text = log.read(MAX_LOG_BYTES).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])


def run_to_end(command: Command, timeout_seconds: float) -> str:
    """Run a short command, with its identity and death signal, until it ends; return its output.

    Raises ServiceStartError if it fails or takes too long.
    """
    program = Path(command.argv[0]).name
    try:
        done = subprocess.run(
            _launch_argv(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(command),
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceStartError(
            f"{program} took longer than {timeout_seconds:.0f} s: check whether the disk is overloaded"
        ) from error
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        tail = "\n".join(output.splitlines()[-TAIL_LINES:])
        raise ServiceStartError(f"{program} failed with exit code {done.returncode}:\n{tail}")
    return output


def end_leftovers(folder: Path, program: str) -> None:
    """End every process of the program that works in the folder, such as servers of a killed owner.

    Call it only while holding the home's lock, and when no server of ours runs there. Raises
    ServiceStartError if a process cannot be ended.
    """
    leftovers = [process for process in psutil.process_iter() if _works_in(process, folder, program)]
    for process in leftovers:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(leftovers, LEFTOVER_SECONDS)
    for process in alive:
        _signal(process, signal.SIGKILL)
    _, alive = psutil.wait_procs(alive, LEFTOVER_SECONDS)
    if alive:
        raise ServiceStartError(
            f"process {alive[0].pid} ({program}) still uses {folder} and cannot be ended: end it yourself"
        )


def _works_in(process: psutil.Process, folder: Path, program: str) -> bool:
    """Return whether the process is the program with the folder as working directory or argument.

    Return False for a zombie.
    """
    try:
        if process.name() != program or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return str(folder) in process.cmdline() or process.cwd() == str(folder.resolve())
    except psutil.Error:  # it has ended meanwhile, or belongs to another user
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise ServiceStartError(
            f"process {process.pid} uses this home's data and belongs to another user: end it"
        ) from error


def _launch_argv(command: Command) -> list[str]:
    identity = command.identity
    return [
        *(sys.executable, "-I", "-S", launch.__file__),
        *(str(os.getpid()), str(int(command.death_signal))),
        *(identity.way, str(identity.uid), str(identity.gid), str(command.folder)),
        *command.argv,
    ]


def _environment(command: Command) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(command.folder), **command.environment}


def _set_aside(log_path: Path) -> None:
    if log_path.exists() and log_path.stat().st_size > MAX_LOG_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))


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
            "Postgres cannot run here: /etc/passwd has no user other than root. Add one, or set "
            "PRESSROOM_DB_URL"
        )
    return entries[0]
