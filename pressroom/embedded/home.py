"""The home folder of the embedded services: its current owner, its passwords and the service addresses."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError, DiskFullError
from jobs.shown import plural

MIN_FREE_MB = 300
"""Minimum free disk space for starting the services, in MB.

A new Postgres cluster takes 39 MB, and its log up to 256 MB more before a checkpoint frees it.
"""
LOCK_SECONDS = 2.0
"""Seconds to wait for the lock.

A process that only checks whether the services run holds it for a millisecond; an owner holds it until it
ends.
"""

ModelT = TypeVar("ModelT", bound=BaseModel)


def _new_password() -> str:
    return secrets.token_hex(24)  # hexadecimal needs no escaping in a URL, a configuration file or CSV


class HomeLockedError(ConfigurationError):
    """Another process runs the services of this home folder."""

    code = "home_locked"


class HomeUnsafeError(ConfigurationError):
    """The home folder belongs to another user, or another user may write to it."""

    code = "home_unsafe"


class Passwords(BaseModel):
    """Passwords, generated at the first start and kept in secrets.json, which only the owner may read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    postgres: str = Field(default_factory=_new_password, repr=False)
    """Password of the role that Pressroom uses."""
    postgres_owner: str = Field(default_factory=_new_password, repr=False)
    """Password of the superuser, which creates that role and is used for nothing else."""
    valkey: str = Field(default_factory=_new_password, repr=False)
    s3_access_key: str = Field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = Field(default_factory=_new_password, repr=False)


class ServiceState(BaseModel):
    """Address and process id of one service; the URL contains the service's password."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False)
    port: int = Field(ge=1, le=65_535)
    pid: int = Field(ge=1, lt=2**31)


class HomeState(BaseModel):
    """Content of services.json. The owner adds the services once all of them answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner_pid: int = Field(ge=1, lt=2**31)
    is_long_running: bool = False
    """Whether the services run until they are stopped; False for the services of a single command."""
    is_ready: bool = False
    services: dict[str, ServiceState] = {}


class Home:
    """The home folder and this process's lock on it. Main thread only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        # Any user who can open the file could lock it.
        self._lock = FileLock(self.folder / "lock", mode=0o600)

    def own(self) -> None:
        """Create the folder if it is missing and take its lock.

        Raises HomeLockedError, HomeUnsafeError, DiskFullError, or ConfigurationError (`home_unusable`).
        """
        try:
            self.folder.mkdir(mode=_mode(), parents=True, exist_ok=True)
            self.check()
            self._close_to_others()
            (self.folder / "logs").mkdir(mode=0o700, exist_ok=True)
            self._check_free_space()
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise self._locked_error() from error
        except OSError as error:
            raise ConfigurationError(
                f"the home folder {self.folder} cannot be used: {error}. "
                "Set PRESSROOM_HOME to a folder of your own",
                code="home_unusable",
            ) from error

    def release(self) -> None:
        """Remove the state file and release the lock; call this after the services have ended."""
        if self._lock.is_locked:
            self._state_path.unlink(missing_ok=True)
            self._lock.release()

    def check(self) -> None:
        """Raise HomeUnsafeError unless the folder belongs to this user and nobody else may write to it.

        The folder contains passwords, and the addresses of services that commands trust.
        """
        if self.folder.is_symlink() and self.folder.lstat().st_uid not in (0, os.geteuid()):
            raise HomeUnsafeError(
                f"the home folder {self.folder} is a link that another user created: set PRESSROOM_HOME to "
                "a folder of your own"
            )
        status = self.folder.stat()
        if status.st_uid != os.geteuid():
            raise HomeUnsafeError(
                f"the home folder {self.folder} belongs to the user {_user(status.st_uid)}, not to "
                f"{_user(os.geteuid())}: set PRESSROOM_HOME to a folder of your own"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HomeUnsafeError(
                f"other users may write to the home folder {self.folder}, which has mode "
                f"{stat.S_IMODE(status.st_mode):o}: check that everything in it is yours, "
                f"then run `chmod 700 {self.folder}`"
            )
        for parent in self.folder.resolve().parents:
            self._check_parent(parent)

    def _check_parent(self, parent: Path) -> None:
        """Raise HomeUnsafeError if another user may rename entries of `parent` and so replace the home."""
        status = parent.stat()
        mode, is_sticky = status.st_mode, bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid not in (0, os.geteuid(), Path("/").stat().st_uid):  # last: root outside a namespace
            who, remedy = f"the user {_user(status.st_uid)}", ""
        elif mode & stat.S_IWOTH and not is_sticky:
            who, remedy = "anybody", f"`chmod o-w {parent}`, or "
        elif mode & stat.S_IWGRP and not is_sticky and status.st_gid not in (0, os.getegid()):
            who, remedy = f"the group {status.st_gid}", f"`chmod g-w {parent}`, or "
        else:
            return
        raise HomeUnsafeError(
            f"{who} may replace the home folder {self.folder} with another folder, because {parent} has mode "
            f"{stat.S_IMODE(mode):o} and belongs to {_user(status.st_uid)}: {remedy}set PRESSROOM_HOME to a "
            "folder of your own"
        )

    def _close_to_others(self) -> None:
        """Remove other users' permissions from the folder and the lock file, if they existed before."""
        if stat.S_IMODE(self.folder.stat().st_mode) & ~_mode():
            self.folder.chmod(_mode())
        with suppress(FileNotFoundError):
            os.chmod(self.folder / "lock", 0o600, follow_symlinks=False)

    def is_owned(self) -> bool:
        """Return whether any process, including this one, holds the lock now. Raises HomeUnsafeError."""
        if not (self.folder / "lock").exists():
            return False
        self.check()
        probe = FileLock(self.folder / "lock", mode=0o600)
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        probe.release()
        return False

    def passwords(self) -> Passwords:
        """Return this home's passwords; generate them at the first start. Only the owner may call this."""
        path = self.folder / "secrets.json"
        known = _read(path, Passwords) or Passwords()
        if known.model_fields_set != set(Passwords.model_fields):  # a new home, or one of an older version
            _write(path, known)
        return known

    def read_state(self) -> HomeState | None:
        """Return the state that the owner wrote last, or None if the owner is dead or there is no file."""
        state = _read(self._state_path, HomeState)
        return state if state is not None and psutil.pid_exists(state.owner_pid) else None

    def last_ports(self) -> dict[str, int]:
        """Return the ports on which the services answered last time, by service."""
        path = self.folder / "ports.json"
        known = _read(path, LastPorts)
        return known.ports if known is not None else {}

    def write_state(self, state: HomeState) -> None:
        _write(self._state_path, state)
        if state.is_ready:
            ports = {name: service.port for name, service in state.services.items()}
            _write(self.folder / "ports.json", LastPorts(ports=ports))

    @property
    def _state_path(self) -> Path:
        return self.folder / "services.json"

    def _check_free_space(self) -> None:
        free_mb = shutil.disk_usage(self.folder).free // 1_000_000
        if free_mb < MIN_FREE_MB:
            raise DiskFullError(
                f"{self.folder} has {free_mb} MB of free space, but the services need {MIN_FREE_MB} MB to "
                "start: free some space, or set PRESSROOM_HOME to a folder on another disk"
            )

    def _locked_error(self) -> HomeLockedError:
        state = self.read_state()
        pid = str(state.owner_pid) if state is not None else "unknown"
        return HomeLockedError(
            f"the services of {self.folder} are run by another process (pid {pid}): use them as they are, "
            f"end that process (kill {pid}), or set PRESSROOM_HOME to another folder"
        )


def _mode() -> int:
    """Return the mode of the home folder. Root's home can be entered by others, since Postgres may run as
    `nobody`."""
    return 0o711 if os.geteuid() == 0 else 0o700


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


class LastPorts(BaseModel):
    """The ports that the services used last. They are used again if free, so that URLs remain valid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ports: dict[str, Annotated[int, Field(ge=1, le=65_535)]]


def _read(path: Path, model: type[ModelT]) -> ModelT | None:
    """Return the file's content, or None if there is no file. Raises ConfigurationError if it is damaged."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is damaged ({plural(error.error_count(), 'error', 'errors')}): restore it from a "
            "backup, or remove it",
            code="home_damaged",
        ) from None  # the original error would quote the secrets


def _write(path: Path, content: BaseModel) -> None:
    """Replace the file atomically; only the owner may read it, since mkstemp creates it with mode 0600."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
