"""Schedules of the kind `trial`, for tests: each due time is a batch of one job."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, func, select, update

from db.batches import accept_in
from db.schedules import RecurringBatch, Schedule, put_schedule, set_times
from db.tables import BatchRow, ScheduleRow
from jobs.batch import BatchStatus
from jobs.schedule import CatchUp, Cron
from tests.factories import new_batch, new_jobs
from workers.recurring import KindSchedules
from workers.settings import Settings


def start_trial(connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
    """A batch named by its due time."""
    batch = new_batch(name=f"{due_at:%Y-%m-%dT%H:%M:%SZ}")
    return accept_in(connection, batch, new_jobs(1), lambda: 0)[0]


class TrialSchedules(KindSchedules):
    """Each batch has ended by the time that the next one is due."""

    def start(self, connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
        """As `start_trial`."""
        batch_id = start_trial(connection, schedule, due_at, settings)
        ended = update(BatchRow).where(BatchRow.id == batch_id).values(status=BatchStatus.FINISHED)
        connection.execute(ended)
        return batch_id


def trial_schedule(
    database: Engine,
    cron: str = "* * * * *",
    *,
    time_zone: str = "UTC",
    catch_up: CatchUp = CatchUp.LATEST,
    since: timedelta = timedelta(0),
) -> UUID:
    """A schedule that has last been looked at this long ago."""
    with database.begin() as connection:
        schedule_id = put_schedule(connection, RecurringBatch(kind="trial", name=str(uuid4()), model="fake"))
        set_times(connection, schedule_id, Cron(cron, time_zone), catch_up)
        connection.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == schedule_id)
            .values(seen_until=func.date_trunc("minute", func.now()) - since)
        )
    return schedule_id


def database_now(database: Engine) -> datetime:
    """By the clock that counts."""
    with database.connect() as connection:
        return connection.execute(select(func.now())).scalar_one()
