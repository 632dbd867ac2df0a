"""Runs of what stands, in a real Postgres: one at a time, whoever starts it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, select

from db.batches import RunUnderWayError, accept, accept_in, cancel, retry_unfinished
from db.schedules import RecurringBatch, Schedule, list_runs, put_schedule, settle_due
from db.tables import BatchRow
from jobs.schedule import CatchUp, RunOutcome
from tests.factories import new_batch, new_jobs
from tests.trial_beat import start_trial, trial_schedule
from workers.settings import Settings


def run_by_hand(database: Engine, schedule_id: UUID | None) -> UUID:
    return accept(database, new_batch(schedule_id=schedule_id), new_jobs(1), lambda: 0)[0]


def start(connection: Connection, schedule: Schedule, due_at: datetime) -> UUID:
    return start_trial(connection, schedule, due_at, Settings())


def batch_ids(database: Engine) -> set[UUID]:
    with database.connect() as connection:
        return set(connection.scalars(select(BatchRow.id)))


def schedule_of(database: Engine) -> UUID:
    """One that runs by hand only."""
    with database.begin() as connection:
        return put_schedule(connection, RecurringBatch(kind="trial", name=str(uuid4())))


def outcomes(database: Engine, schedule_id: UUID) -> list[RunOutcome]:
    return [run.outcome for run in list_runs(database, schedule_id)]


def test_many_who_start_at_once_make_one_batch_and_the_others_are_told_which(database: Engine) -> None:
    schedule_id, gate = schedule_of(database), threading.Barrier(6)
    made: list[UUID] = []
    refused: list[UUID] = []

    def run() -> None:
        gate.wait()
        try:
            made.append(run_by_hand(database, schedule_id))
        except RunUnderWayError as error:
            refused.append(error.batch_id)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert batch_ids(database) == set(made)
    assert len(made) == 1
    assert refused == made * 5


def test_run_that_has_ended_makes_way_for_the_next_one(database: Engine) -> None:
    schedule_id = schedule_of(database)
    first = run_by_hand(database, schedule_id)
    with pytest.raises(RunUnderWayError, match=f"pressroom status {first}"):
        run_by_hand(database, schedule_id)
    cancel(database, first)
    assert run_by_hand(database, schedule_id) != first


def test_other_monitors_and_files_run_beside(database: Engine) -> None:
    run_by_hand(database, schedule_of(database))
    run_by_hand(database, schedule_of(database))
    run_by_hand(database, None)
    run_by_hand(database, None)
    assert len(batch_ids(database)) == 4


def test_key_that_has_a_batch_returns_it_although_a_run_is_under_way(database: Engine) -> None:
    keyed = new_batch(schedule_id=schedule_of(database), idempotency_key="tuesday")
    first, _ = accept(database, keyed, new_jobs(1), lambda: 0)
    assert accept(database, keyed, new_jobs(1), lambda: 0) == (first, False)


def test_due_time_during_a_run_by_hand_is_recorded_as_overlapped(database: Engine) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    by_hand = run_by_hand(database, schedule_id)
    settle_due(database, schedule_id, start)

    assert outcomes(database, schedule_id)[0] is RunOutcome.OVERLAPPED
    assert batch_ids(database) == {by_hand}


def test_due_time_that_is_to_run_waits_for_the_end_of_a_run_by_hand(database: Engine) -> None:
    schedule_id = trial_schedule(database, catch_up=CatchUp.ALL, since=timedelta(minutes=1))
    by_hand = run_by_hand(database, schedule_id)
    settle_due(database, schedule_id, start)
    assert outcomes(database, schedule_id) == []

    cancel(database, by_hand)
    settle_due(database, schedule_id, start)
    assert outcomes(database, schedule_id) == [RunOutcome.STARTED]


def test_run_by_hand_that_begins_while_a_due_time_starts_leaves_it_to_the_next_look(
    database: Engine,
) -> None:
    schedule_id = trial_schedule(database, since=timedelta(minutes=1))
    by_hand: list[UUID] = []

    def start_second(connection: Connection, schedule: Schedule, _: datetime) -> UUID:
        by_hand.append(run_by_hand(database, schedule.id))  # committed after the look
        batch = new_batch(schedule_id=schedule.id)
        return accept_in(connection, batch, new_jobs(1), lambda: 0)[0]

    with pytest.raises(RunUnderWayError):
        settle_due(database, schedule_id, start_second)
    assert outcomes(database, schedule_id) == []

    settle_due(database, schedule_id, start)
    assert outcomes(database, schedule_id)[0] is RunOutcome.OVERLAPPED
    assert batch_ids(database) == set(by_hand)


def test_retry_of_an_earlier_run_is_refused_while_another_is_under_way(database: Engine) -> None:
    schedule_id = schedule_of(database)
    earlier = run_by_hand(database, schedule_id)
    cancel(database, earlier)
    later = run_by_hand(database, schedule_id)
    with pytest.raises(RunUnderWayError) as refused:
        retry_unfinished(database, earlier)
    assert refused.value.batch_id == later

    cancel(database, later)
    assert retry_unfinished(database, earlier) == 1
    with pytest.raises(RunUnderWayError):
        run_by_hand(database, schedule_id)
