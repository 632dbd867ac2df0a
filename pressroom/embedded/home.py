"""The home folder of the embedded services: who owns it now, its passwords, and where the services answer."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError, DiskFullError
from pressroom.embedded.errors import HomeLockedError

MIN_FREE_MB = 300
"""A new Postgres cluster takes 39 MB, its log up to 256 MB more before a checkpoint frees it."""
LOCK_SECONDS = 2.0
"""Whoever asks whether the services run holds the lock for a millisecond; an owner holds it for good."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def _new_password() -> str:
    return secrets.token_hex(24)  # hexadecimal: needs no escaping in a URL, a configuration file or CSV


class Passwords(BaseModel):
    """Generated at the first start, kept in secrets.json, readable by the owner only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    postgres: str = Field(default_factory=_new_password, repr=False)
    valkey: str = Field(default_factory=_new_password, repr=False)
    s3_access_key: str = Field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = Field(default_factory=_new_password, repr=False)


class ServiceState(BaseModel):
    """Where one service answers; the URL holds its password."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False)
    port: int
    pid: int


class HomeState(BaseModel):
    """services.json, written by the owner: at once with its pid, then with all services when they answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner_pid: int
    is_standing: bool = False
    """True of services that run until they are told to stop; false of those of one command."""
    is_ready: bool = False
    services: dict[str, ServiceState] = {}


class Home:
    """The folder, and this process's lock on it. Main thread only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._lock = FileLock(self.folder / "lock")

    def own(self) -> None:
        """Make the folder if it is missing and take its lock.

        Raises HomeLockedError, DiskFullError, or ConfigurationError (`home_unusable`).
        """
        try:
            # Others may pass, not look: Postgres may have to run as `nobody`. What is in it is closed.
            self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            (self.folder / "logs").mkdir(mode=0o700, exist_ok=True)
            self._check_free_space()
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise self._locked_error() from error
        except OSError as error:
            raise ConfigurationError(
                f"the home folder {self.folder} cannot be used: {error}. "
                "Set PRESSROOM_HOME to a folder of yours",
                code="home_unusable",
            ) from error

    def release(self) -> None:
        """Say that nothing runs here any more."""
        if self._lock.is_locked:
            self._state_path.unlink(missing_ok=True)
            self._lock.release()

    def is_owned(self) -> bool:
        """Whether some process, this one included, holds the lock now."""
        if not (self.folder / "lock").exists():
            return False
        probe = FileLock(self.folder / "lock")
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        probe.release()
        return False

    def passwords(self) -> Passwords:
        """Those of this home, generated if there are none. The owner calls it."""
        path = self.folder / "secrets.json"
        known = _read(path, Passwords)
        if known is None:
            known = Passwords()
            _write(path, known)
        return known

    def read_state(self) -> HomeState | None:
        """The owner's last word; of a dead owner none, though the file may still be there."""
        state = _read(self._state_path, HomeState)
        return state if state is not None and psutil.pid_exists(state.owner_pid) else None

    def last_ports(self) -> dict[str, int]:
        """Where the services answered last time."""
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
                f"{free_mb} MB are free where {self.folder} is, the services need {MIN_FREE_MB} MB to start: "
                "free some space, or set PRESSROOM_HOME to a folder on another disk"
            )

    def _locked_error(self) -> HomeLockedError:
        state = self.read_state()
        pid = str(state.owner_pid) if state is not None else "unknown"
        return HomeLockedError(
            f"the services of {self.folder} are run by another process (pid {pid}): use them as they are, "
            f"end that process (kill {pid}), or set PRESSROOM_HOME to another folder"
        )


class LastPorts(BaseModel):
    """Kept over restarts, so that a URL that someone noted stays true while the port is free."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ports: dict[str, int]


def _read(path: Path, model: type[ModelT]) -> ModelT | None:
    """The file's content, None if there is no file. Raises ConfigurationError if it is damaged."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is damaged ({error.error_count()} errors): restore it from a copy, or remove it",
            code="home_damaged",
        ) from None  # the error would quote the secrets


def _write(path: Path, content: BaseModel) -> None:
    """Replace the file in one step; only the owner may read it (mkstemp makes it 0600)."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
