"""Runs the dispatcher in a thread of a command's process."""

from __future__ import annotations

import threading

from sqlalchemy.exc import SQLAlchemyError

from db.dispatch import SESSION_NAME
from db.session import open_database
from jobs.errors import PressroomError
from workers.dispatcher import Dispatcher
from workers.settings import Settings


class DispatcherEndedError(PressroomError):
    """The dispatcher ended by a fault of its own; outages of Postgres and Redis do not end it."""

    code = "dispatcher_ended"


class DispatcherThread:
    """Dispatches from its creation until it is stopped; call `check` regularly."""

    def __init__(self, db_url: str, redis_url: str, settings: Settings) -> None:
        self._database = open_database(db_url, application_name=SESSION_NAME)
        self._stopping = threading.Event()
        self._error: SQLAlchemyError | None = None
        self._dispatcher = Dispatcher(self._database, redis_url, settings)
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._dispatcher.run(self._stopping)
        except SQLAlchemyError as error:
            self._error = error

    def check(self) -> None:
        """Raise DispatcherEndedError if the thread crashed, or the SQLAlchemyError that ended it."""
        if self._error is not None:
            raise self._error
        if not self._thread.is_alive():
            raise DispatcherEndedError("the dispatcher ended with the error above: the batch can go on later")

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Stop the thread and wait at most this long.

        A thread that hangs in a network call ends with the process.
        """
        self._stopping.set()
        self._thread.join(timeout_seconds)
        self._database.dispose()
