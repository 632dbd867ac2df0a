"""Reads the clock of Postgres."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import DateTime, Engine, func, select

from kinds.recommendation.materials import Clock
from workers.ports import RunningJob, WorkerServices


class DatabaseClock:
    """Reads the clock with a connection for each call. Implements kinds.recommendation.materials.Clock."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def now(self) -> datetime:
        """Return the current time in UTC."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()


def open_clock(services: WorkerServices) -> Callable[[RunningJob], Clock]:
    """Return a function from a job to the clock, which all jobs share.

    Implements `workers.ports.PortOpener`.
    """
    clock = DatabaseClock(services.database)
    return lambda _: clock
