"""Celery's own beat over Postgres, as processes that are killed: every due time becomes one batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.engine import make_url

from db.schedules import SESSION_NAME, list_runs
from db.tables import BatchRow, ScheduleRunRow
from jobs.schedule import CatchUp, RunOutcome
from tests.conftest import PLUGINS
from tests.factories import wait_until
from tests.trial_beat import trial_schedule

ROOT = Path(__file__).parents[2]

PATIENCE_SECONDS = 60.0


@contextmanager
def beat_process(database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """`celery beat` as one starts it without Pressroom's command."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "workers.celery", "beat"),
            *("-S", "workers.beat:PostgresScheduler"),
        ],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PLUGINS),
            "PRESSROOM_DB_URL": database_url,
            "PRESSROOM_REDIS_URL": "redis://127.0.0.1:1/0",  # nobody is there: beat sends nothing
        },
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def num_runs(database: Engine) -> int:
    with database.connect() as connection:
        return len(connection.scalars(select(ScheduleRunRow.due_at)).all())


def has_runs(database: Engine, number: int) -> bool:
    return num_runs(database) >= number


def check_one_batch_a_due_time(database: Engine) -> list[str]:
    """Every run has its batch, every batch its run; the batches' names, which are their due times."""
    with database.connect() as connection:
        runs = connection.execute(select(ScheduleRunRow.__table__)).all()
        batches = connection.execute(select(BatchRow.id, BatchRow.name)).all()
    names = {row.id: row.name for row in batches}
    assert {run.outcome for run in runs} == {RunOutcome.STARTED}
    assert {run.batch_id: f"{run.due_at:%Y-%m-%dT%H:%M:%SZ}" for run in runs} == names
    return sorted(names.values())


def test_beat_that_is_killed_again_and_again_loses_and_doubles_nothing(
    database: Engine, database_url: str
) -> None:
    trial_schedule(database, since=timedelta(hours=10), catch_up=CatchUp.ALL)
    for wanted in (50, 200, 350):
        with beat_process(database_url) as beat:
            wait_until(partial(has_runs, database, wanted), "some runs", seconds=PATIENCE_SECONDS)
            beat.send_signal(signal.SIGKILL)
    with beat_process(database_url):
        wait_until(lambda: num_runs(database) >= 600, "every due time", seconds=PATIENCE_SECONDS)

    names = check_one_batch_a_due_time(database)
    assert len(set(names)) == len(names)
    assert len(names) in (600, 601, 602)  # of ten hours of minutes, and those that passed meanwhile


def test_two_beats_make_one_batch_a_due_time_and_one_takes_over_from_the_other(
    database: Engine, database_url: str
) -> None:
    trial_schedule(database, "* * * * * *", since=timedelta(minutes=2), catch_up=CatchUp.ALL)
    with beat_process(database_url) as first, beat_process(database_url) as second:
        wait_until(lambda: num_runs(database) >= 130, "some runs", seconds=PATIENCE_SECONDS)
        first.send_signal(signal.SIGKILL)
        before = num_runs(database)
        wait_until(lambda: num_runs(database) > before + 3, "runs after it", seconds=PATIENCE_SECONDS)
        assert second.poll() is None
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE_SECONDS) == 0

    check_one_batch_a_due_time(database)


def test_beat_goes_on_after_postgres_was_away(
    database: Engine, database_url: str, services_admin: Callable[[str], None]
) -> None:
    schedule_id = trial_schedule(database, "* * * * * *", catch_up=CatchUp.ALL)
    name = make_url(database_url).database
    with beat_process(database_url) as beat:
        wait_until(lambda: num_runs(database) >= 2, "some runs", seconds=PATIENCE_SECONDS)
        services_admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        services_admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND application_name = '{SESSION_NAME}'"
        )
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database_url)
        services_admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        before = num_runs(database)
        wait_until(lambda: num_runs(database) > before + 2, "runs after it", seconds=PATIENCE_SECONDS)
        assert beat.poll() is None

    check_one_batch_a_due_time(database)
    seconds = sorted(run.due_at for run in list_runs(database, schedule_id, limit=1000))
    assert {later - sooner for sooner, later in pairwise(seconds)} == {timedelta(seconds=1)}
