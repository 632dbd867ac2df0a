"""Due times in a real Postgres: each is settled once, whoever looks and whatever fails."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, select, text, update

from db import schedules
from db.batches import RunUnderWayError, accept_in, cancel
from db.schedules import (
    MAX_SKIPPED_ROWS,
    RecurringBatch,
    Schedule,
    ScheduleNotFoundError,
    clear_times,
    get_schedule,
    list_runs,
    pause,
    put_schedule,
    remove_schedule,
    resume,
    set_times,
    settle_due,
)
from db.tables import BatchRow, ScheduleRow
from jobs.errors import ConfigurationError, TransientError
from jobs.schedule import CatchUp, Cron, RunOutcome
from tests.factories import new_batch, new_jobs
from tests.trial_beat import database_now, start_trial, trial_schedule
from workers.settings import Settings

HOUR = timedelta(hours=1)


def start(connection: Connection, schedule: Schedule, due_at: datetime) -> UUID:
    return start_trial(connection, schedule, due_at, Settings())


def batch_names(database: Engine) -> list[str]:
    with database.connect() as connection:
        return sorted(connection.scalars(select(BatchRow.name)))


def outcomes(database: Engine, schedule_id: UUID) -> Counter[RunOutcome]:
    return Counter(run.outcome for run in list_runs(database, schedule_id, limit=10_000))


def settle_all(database: Engine, schedule_id: UUID) -> None:
    while settle_due(database, schedule_id, start):
        pass


def finish_batches(database: Engine) -> None:
    with database.connect() as connection:
        ids = connection.scalars(select(BatchRow.id).where(BatchRow.status == "running")).all()
    for batch_id in ids:
        cancel(database, batch_id)


def test_due_time_becomes_one_batch_however_often_it_is_settled(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    for _ in range(3):
        settle_due(database, schedule_id, start)

    assert outcomes(database, schedule_id)[RunOutcome.STARTED] == 1
    assert len(batch_names(database)) == 1


def test_many_who_settle_at_once_make_one_batch(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    gate = threading.Barrier(6)

    def settle() -> None:
        gate.wait()
        settle_due(database, schedule_id, start)

    threads = [threading.Thread(target=settle) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(batch_names(database)) == 1


def test_latest_runs_the_newest_missed_due_time_and_skips_the_others(database: Engine) -> None:
    schedule_id = trial_schedule(database, "0 * * * *", since=5 * HOUR)
    settle_all(database, schedule_id)

    newest, *others = list_runs(database, schedule_id)
    assert newest.outcome is RunOutcome.STARTED
    assert len(others) in (4, 5)
    assert {run.outcome for run in others} == {RunOutcome.SKIPPED}
    assert batch_names(database) == [f"{newest.due_at:%Y-%m-%dT%H:%M:%SZ}"]


def test_all_runs_each_missed_due_time_once_the_one_before_has_ended(database: Engine) -> None:
    schedule_id = trial_schedule(database, "0 * * * *", since=3 * HOUR, catch_up=CatchUp.ALL)
    for number in (1, 2, 3):
        settle_all(database, schedule_id)
        assert len(batch_names(database)) == number
        finish_batches(database)

    assert set(outcomes(database, schedule_id)) == {RunOutcome.STARTED}
    assert len(set(batch_names(database))) == 3


def test_none_runs_no_missed_due_time(database: Engine) -> None:
    other_half_of_the_day = (database_now(database) + 12 * HOUR).hour
    cron = f"0 {other_half_of_the_day} * * *"
    schedule_id = trial_schedule(database, cron, since=timedelta(days=5), catch_up=CatchUp.NONE)
    settle_all(database, schedule_id)

    assert outcomes(database, schedule_id)[RunOutcome.SKIPPED] >= 4
    assert outcomes(database, schedule_id)[RunOutcome.OVERLAPPED] == 0


def test_due_time_during_the_run_before_is_recorded_as_overlapped(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    settle_all(database, schedule_id)
    with database.begin() as connection:  # a minute passes
        connection.execute(text("UPDATE schedule_runs SET due_at = due_at - interval '10 minutes'"))
        connection.execute(text("UPDATE schedules SET seen_until = seen_until - interval '1 minute'"))
    settle_all(database, schedule_id)

    assert outcomes(database, schedule_id)[RunOutcome.OVERLAPPED] == 1
    assert len(batch_names(database)) == 1


def test_next_due_time_runs_when_the_run_before_was_cancelled(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    settle_all(database, schedule_id)
    finish_batches(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE schedule_runs SET due_at = due_at - interval '10 minutes'"))
        connection.execute(text("UPDATE schedules SET seen_until = seen_until - interval '1 minute'"))
    settle_all(database, schedule_id)

    assert outcomes(database, schedule_id)[RunOutcome.STARTED] == 2


def test_a_year_of_missed_minutes_costs_few_rows(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(days=30))
    settle_all(database, schedule_id)

    counted = outcomes(database, schedule_id)
    assert counted[RunOutcome.STARTED] == 1
    assert counted[RunOutcome.SKIPPED] <= 30 * 24 * 60 / schedules.MAX_DUE + MAX_SKIPPED_ROWS + 1


def test_paused_schedule_starts_nothing_and_does_not_catch_up_when_resumed(database: Engine) -> None:
    schedule_id = trial_schedule(database, "0 0 1 * *", since=timedelta(days=90), catch_up=CatchUp.ALL)
    pause(database, schedule_id)
    settle_all(database, schedule_id)
    assert batch_names(database) == []
    assert schedules.due_schedules(database) == []

    resume(database, schedule_id)
    due = [schedule.id for schedule in schedules.due_schedules(database)]
    assert due == []  # the next due time is in the next month; earlier ones are skipped
    assert list_runs(database, schedule_id) == []


def test_start_that_is_refused_is_a_failed_run_and_leaves_nothing_else(database: Engine) -> None:
    def refuse(connection: Connection, schedule: Schedule, due_at: datetime) -> UUID:
        start(connection, schedule, due_at)
        raise ConfigurationError("no worker profile has the model", code="model_without_profile")

    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    settle_due(database, schedule_id, refuse)

    run = list_runs(database, schedule_id)[0]
    assert (run.outcome, run.error_code, run.batch_id) == (RunOutcome.FAILED, "model_without_profile", None)
    assert batch_names(database) == []


def test_bug_of_a_starter_is_a_failed_run(database: Engine) -> None:
    def crash(connection: Connection, schedule: Schedule, due_at: datetime) -> UUID:
        raise KeyError("policy")

    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    settle_due(database, schedule_id, crash)

    assert list_runs(database, schedule_id)[0].error_code == "unexpected"


def test_start_that_may_succeed_later_leaves_the_due_time_as_it_was(database: Engine) -> None:
    def wait(connection: Connection, schedule: Schedule, due_at: datetime) -> UUID:
        start(connection, schedule, due_at)
        raise TransientError("the store is away")

    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    with pytest.raises(TransientError):
        settle_due(database, schedule_id, wait)
    assert list_runs(database, schedule_id) == []

    settle_due(database, schedule_id, start)
    assert len(batch_names(database)) == 1


def test_schedule_that_cannot_be_read_does_not_stop_the_others(database: Engine) -> None:
    broken = trial_schedule(database, since=HOUR)
    sound = trial_schedule(database, since=HOUR)
    with database.begin() as connection:
        connection.execute(
            update(ScheduleRow).where(ScheduleRow.id == broken).values(time_zone="Mars/Utopia")
        )

    assert [schedule.id for schedule in schedules.due_schedules(database)] == [sound]


def remove(database: Engine, schedule_id: UUID) -> None:
    with database.begin() as connection:
        remove_schedule(connection, get_schedule(database, schedule_id), id_setting="watched")


@pytest.mark.parametrize("is_run", [True, False])
def test_schedule_in_use_by_a_batch_under_way_cannot_be_removed(database: Engine, is_run: bool) -> None:
    schedule_id = trial_schedule(database)
    batch = new_batch(schedule_id=schedule_id)
    if not is_run:
        batch = replace(batch, schedule_id=None, settings={"watched": str(schedule_id)})
    with database.begin() as connection:
        batch_id, _ = accept_in(connection, batch, new_jobs(1), lambda: 0)
    with pytest.raises(RunUnderWayError, match=str(batch_id)):
        remove(database, schedule_id)
    assert get_schedule(database, schedule_id).id == schedule_id

    cancel(database, batch_id)
    remove(database, schedule_id)
    with pytest.raises(ScheduleNotFoundError):
        get_schedule(database, schedule_id)


def test_removed_schedule_leaves_its_batches_which_refer_to_none(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    with database.begin() as connection:
        batch_id, _ = accept_in(connection, new_batch(schedule_id=schedule_id), new_jobs(1), lambda: 0)
    cancel(database, batch_id)
    remove(database, schedule_id)

    with database.connect() as connection:
        assert connection.scalar(select(BatchRow.schedule_id).where(BatchRow.id == batch_id)) is None
        assert connection.scalar(select(BatchRow.id)) == batch_id
    assert list_runs(database, schedule_id) == []
    with pytest.raises(ScheduleNotFoundError):
        get_schedule(database, schedule_id)


def test_schedule_without_times_runs_by_hand_only_until_it_gets_some(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=HOUR)
    settle_all(database, schedule_id)
    with database.begin() as connection:
        clear_times(connection, schedule_id)
    assert get_schedule(database, schedule_id).timing is None
    assert list_runs(database, schedule_id) == []
    assert schedules.due_schedules(database) == []
    assert not settle_due(database, schedule_id, start)

    with database.begin() as connection:
        set_times(connection, schedule_id, Cron("0 3 * * *", "UTC"), CatchUp.ALL)
    timing = get_schedule(database, schedule_id).timing
    assert timing is not None
    assert timing.next_due_at is not None
    assert not settle_due(database, schedule_id, start)  # due times that passed before are skipped


def test_schedule_is_changed_by_its_name_and_keeps_its_times_and_its_id(database: Engine) -> None:
    with database.begin() as connection:
        first = put_schedule(connection, RecurringBatch(kind="trial", name="daily", settings={"a": 1}))
        set_times(connection, first, Cron("0 3 * * *", "UTC"), CatchUp.ALL)
        again = put_schedule(connection, RecurringBatch(kind="trial", name="daily", model="other"))
        of_another = put_schedule(connection, RecurringBatch(kind="two_stage", name="daily"))
    changed = get_schedule(database, first)
    assert again == first == changed.id != of_another
    assert (changed.model, changed.settings) == ("other", {})
    assert changed.timing is not None
    assert [schedule.id for schedule in schedules.list_schedules(database, "trial")] == [first]
