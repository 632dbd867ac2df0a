"""Beat whose schedules start a batch of one trial job, for tests; also as a process of its own:
`celery -A workers.celery beat -S tests.trial_beat:TrialScheduler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, func, select, update

from db.batches import accept_in
from db.schedules import Schedule, put_schedule
from db.tables import BatchRow
from jobs.batch import BatchStatus
from jobs.cron import Cron
from jobs.schedule import CatchUp
from kinds.sentiment.tables import ScheduleRow
from tests.factories import new_batch, new_jobs
from workers.beat import PostgresScheduler, Starter
from workers.settings import Settings

STARTS = "trial"


def start_trial(connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
    """A batch named by its due time."""
    batch = new_batch(name=f"{due_at:%Y-%m-%dT%H:%M:%SZ}")
    return accept_in(connection, batch, new_jobs(1), lambda: 0)[0]


def start_and_end_trial(
    connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings
) -> UUID:
    """As `start_trial`; the batch has ended by the time that the next one is due."""
    batch_id = start_trial(connection, schedule, due_at, settings)
    connection.execute(update(BatchRow).where(BatchRow.id == batch_id).values(status=BatchStatus.FINISHED))
    return batch_id


class TrialScheduler(PostgresScheduler):
    """Knows trials alone."""

    starters: ClassVar[Mapping[str, Starter]] = {STARTS: start_and_end_trial}


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
        schedule_id = put_schedule(
            connection, starts=STARTS, target_id=uuid4(), cron=Cron(cron, time_zone), catch_up=catch_up
        )
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
