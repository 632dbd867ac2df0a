"""Threads that do not keep a process from ending, unlike those of ThreadPoolExecutor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(Executor):
    """Runs each call in its own thread, up to a maximum at a time."""

    def __init__(self, max_running: int) -> None:
        self._room = threading.BoundedSemaphore(max_running)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the future of the call; a call that still waits for room can be cancelled."""
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
