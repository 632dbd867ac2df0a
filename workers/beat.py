"""Celery beat with its schedules in Postgres: `pressroom beat`.

The equivalent command of Celery is `celery -A workers.celery beat -S workers.beat:PostgresScheduler`.

Beat sends no messages: it turns a due time into a batch, in one transaction with the row that records the due
time, and the dispatcher finds the batch's jobs. Several processes may run; one is active, and the others
stand by.
"""

from __future__ import annotations

import logging
import signal
import threading
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from celery.beat import Scheduler, Service
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from db.faults import fault_of
from db.leads import BEAT
from db.schedules import SESSION_NAME, Schedule, due_schedules, settle_due
from db.session import open_database
from jobs.errors import PressroomError, TransientError
from workers.background import BEAT as BESIDE_BEAT
from workers.background import BackgroundPlace, BackgroundServices, services_under
from workers.celery import make_app
from workers.child_process import drain_when_parent_dies
from workers.lead import Lead
from workers.outage import Outage
from workers.recurring import schedules_of
from workers.settings import Settings, read_settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""Interval between two checks of the schedules, and thus the resolution of cron expressions with seconds."""

STANDBY_SECONDS = 2.0
"""Interval between two attempts to become the leader, and the wait after an outage of Postgres."""


class BeatEndedError(PressroomError):
    """Beat ended because of an internal error; outages of Postgres do not end it."""

    code = "beat_ended"


class Beat:
    """Creates the batches of due schedules while this process leads. Belongs to one thread."""

    def __init__(self, database: Engine, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._lead = Lead(database, BEAT)
        self._postgres = Outage(logger, "Postgres", meanwhile="due runs wait")

    def tick(self) -> float:
        """Handle the schedules that are due; return the seconds until the next tick.

        Outages of Postgres are logged and waited for.
        """
        try:
            is_active = self._lead.is_held()
            for schedule in due_schedules(self._database) if is_active else ():
                self._settle(schedule)
        except SQLAlchemyError as error:
            self._postgres.note(error, fault_of(error))
            return STANDBY_SECONDS
        self._postgres.end()
        return TICK_SECONDS if is_active else STANDBY_SECONDS

    def _settle(self, schedule: Schedule) -> None:
        try:
            while settle_due(self._database, schedule.id, self._start):
                pass
        except TransientError as error:
            logger.warning(
                "A due run could not be started yet.",
                extra={"schedule_id": str(schedule.id), "reason": str(error)},
            )

    def _start(self, connection: Connection, schedule: Schedule, due_at: datetime) -> UUID:
        batch_id = schedules_of(schedule.kind).start(connection, schedule, due_at, self._settings)
        logger.info("A scheduled batch was created.", extra={"batch_id": str(batch_id), "due_at": due_at})
        return batch_id

    def close(self) -> None:
        """Give up the lead."""
        self._lead.give_up()


class PostgresScheduler(Scheduler):
    """The scheduler that `celery beat` runs; it needs no broker and writes no file.

    The services of kinds run in the same process.
    """

    max_interval = int(TICK_SECONDS)
    _beat: Beat | None = None
    _background: BackgroundServices | None = None
    _database: Engine | None = None
    _is_ticking = False
    _is_ending = False

    def __init__(self, *arguments: Any, place: BackgroundPlace | None = None, **options: Any) -> None:
        """Create the scheduler; `place` defaults to the settings from the environment."""
        self._place = place
        super().__init__(*arguments, **options)

    def setup_schedule(self) -> None:
        """Connect to Postgres, and prepare beat and the services of kinds.

        Celery does not call this for the instance that it creates only to print its name.
        """
        place = self._place or _place_of(read_settings())
        settings = place.settings
        if settings.supervisor_pid is not None:
            drain_when_parent_dies(settings.supervisor_pid)
        self._database = open_database(place.db_url, application_name=SESSION_NAME)
        self._beat = Beat(self._database, settings)
        if threading.current_thread() is threading.main_thread():  # Celery's command
            for number in (signal.SIGTERM, signal.SIGINT):  # replaces Celery's handlers, set just before
                signal.signal(number, self._end)
        self._background = BackgroundServices(services_under(BESIDE_BEAT), place)

    def tick(self, *_: Any, **__: Any) -> float:
        """Run one round and return the seconds until the next. Raises SystemExit if a signal asked beat to
        end."""
        if self._beat is None:
            raise RuntimeError("tick() was called on a scheduler that was not set up")
        self._is_ticking = True
        try:
            seconds = self._beat.tick()
            if self._background is not None:
                self._background.check()
        finally:
            self._is_ticking = False
        if self._is_ending:
            raise SystemExit
        return seconds

    def _end(self, *_: object) -> None:
        """End now, or after the current tick.

        SystemExit in the middle of a transaction would make the rollback fail, and the error of the rollback
        would replace the SystemExit.
        """
        self._is_ending = True
        if not self._is_ticking:
            raise SystemExit

    def close(self) -> None:
        """Stop the services, give up the lead and close the connections; a second call does nothing."""
        if self._beat is not None:
            self._beat.close()
        if self._background is not None:
            self._background.close()
        if self._database is not None:
            self._database.dispose()
        super().close()

    @property
    def info(self) -> str:
        return "    . schedules -> Postgres"


def _place_of(settings: Settings) -> BackgroundPlace:
    return BackgroundPlace(
        db_url=settings.require_db_url(),
        redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
        s3_url=settings.s3_url.get_secret_value() if settings.s3_url else None,
        settings=settings,
    )


class BeatThread:
    """Celery's beat service as a thread that runs until it is stopped; call `check` at intervals."""

    def __init__(self, place: BackgroundPlace) -> None:
        scheduler = partial(PostgresScheduler, place=place)
        app = make_app(lambda: place.redis_url or place.settings.require_redis_url())
        self._service = Service(app, scheduler_cls=scheduler)  # type: ignore[arg-type]  # Celery only calls it
        self._thread = threading.Thread(target=self._service.start, name="beat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise BeatEndedError if the thread has crashed."""
        if not self._thread.is_alive():
            raise BeatEndedError(
                "beat ended because of the error above; due runs wait in Postgres until it is started again"
            )

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Stop the thread, and wait at most `timeout_seconds` (None: until it has ended).

        A thread that hangs in a network call ends with the process.
        """
        self._service.stop()
        self._thread.join(timeout_seconds)
