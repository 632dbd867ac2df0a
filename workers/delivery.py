"""Delivers messages of kinds: defines the targets, appends to files, and provides threads for slow receivers.

A message is delivered at least once, with the same id each time. Webhooks are in workers.webhooks, since
sending them needs an HTTP client.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Literal, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import TransientError
from jobs.sources import Variable, WebPlace


class WebhookTarget(WebPlace):
    """A URL that receives messages as Standard Webhooks; its variables are those of the sending process."""

    type: Literal["webhook"] = "webhook"
    name: str = Field(min_length=1, max_length=64)
    secret_variable: Variable
    """Name of the environment variable with the signing secret ("whsec_..."), never the secret itself."""


class FileTarget(BaseModel):
    """A file to which messages are appended as lines of JSON; "-" is stdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["file"] = "file"
    name: str = Field(min_length=1, max_length=64)
    path: str


Target = Annotated[WebhookTarget | FileTarget, Field(discriminator="type")]


STDOUT = "-"

LOCK_SECONDS = 5.0
"""Time to wait for another writer of the file. It is limited because anyone who can read the file can hold
its lock forever."""

LOOK_BACK_BYTES = 2**20
"""Number of bytes at the end of the file that are searched for the line of an earlier attempt."""


class FileTargetError(TransientError):
    """The file cannot be written now."""

    code = "alert_file_unusable"


def append_line(target: FileTarget, *, message_id: str, body: str, is_first: bool) -> None:
    """Append one line, unless it is already there from an earlier attempt.

    On stdout, a line may appear twice after a crash between writing and recording it; both have the same id.
    With `is_first`, no line of an earlier attempt is searched for. Raises FileTargetError.
    """
    if target.path == STDOUT:
        sys.stdout.write(f"{body}\n")
        sys.stdout.flush()
        return
    path = Path(target.path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, message_id, body.encode(), is_first=is_first)
    except OSError as error:
        raise FileTargetError(
            f"{path} cannot be written ({error.strerror or error}): free some space, or correct the target"
        ) from error


def _append(path: Path, message_id: str, line: bytes, *, is_first: bool) -> None:
    # A symbolic link in place of the file must not redirect the write to its destination
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with open(descriptor, "a+b") as file:
        _lock(file.fileno())
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 if is_first else LOOK_BACK_BYTES)))
        end = file.read()
        torn = bool(end) and not end.endswith(b"\n")
        whole_lines = end[: end.rfind(b"\n") + 1]
        if not is_first and f'"id": "{message_id}"'.encode() in whole_lines:
            return
        file.write((b"\n" if torn else b"") + line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _lock(descriptor: int) -> None:
    """Lock the file. Raises OSError if another process keeps the lock for LOCK_SECONDS."""
    give_up_at = monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if monotonic() >= give_up_at:
                raise OSError(error.errno, "another process has locked the file") from error
            sleep(0.05)


P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(Executor):
    """An executor that runs each call in its own daemon thread, at most `max_running` at a time."""

    def __init__(self, max_running: int) -> None:
        self._room = threading.BoundedSemaphore(max_running)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the future of the call; a call that still waits for a free thread can be cancelled."""
        future: Future[T] = Future()

        def run() -> None:
            with self._room:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - raised again by the future's result()
                    future.set_exception(error)

        threading.Thread(target=run, name="delivery", daemon=True).start()
        return future
