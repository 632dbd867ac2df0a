"""Who is blamed for a lost worker: nobody without evidence, and halving finds the one that there is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db import batches, dispatch, leases
from db.outcomes import commit
from db.recovery import Reaped, reap_expired_leases
from db.reports import batch_status, job_detail
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
from jobs.losses import Cause
from tests.factories import (
    accept,
    attempt_outcomes,
    claim,
    end_worker,
    evidence_of,
    failure,
    job_ids,
    job_row,
    new_batch,
    run_out_leases,
    set_job,
    statuses,
    success,
)

pytestmark = pytest.mark.attack("job that ends its worker every time")


def lose(
    database: Engine, ids: Sequence[UUID], cause: Cause = Cause.FAULT_SIGNAL, *, alone: bool = False
) -> Reaped:
    """A worker of its own claims the jobs and ends; its supervisor says how."""
    worker = f"worker-{lose.__dict__.setdefault('count', 0)}"
    lose.__dict__["count"] += 1
    assert len(claim(database, ids, worker=worker, alone=alone)) == len(ids)
    end_worker(database, worker, cause)
    return reap_expired_leases(database, max_crashes=2)


def rounds(database: Engine, batch_id: UUID, poison: UUID, cause: Cause, *, num_places: int = 64) -> int:
    """Play a dispatcher and one worker, which ends whenever it holds the poison; how often it ended."""
    num_ends = 0
    for number in range(200):
        suspects = dispatch.take_suspects(database, "cpu")
        sent = suspects or dispatch.take(database, batch_id, num_places)
        if not sent:
            return num_ends
        worker = f"{poison}-{number}"
        held = claim(database, sent, worker=worker, alone=bool(suspects))
        if poison in {job.id for job in held}:
            end_worker(database, worker, cause, signal="SIGSEGV")
            reap_expired_leases(database, max_crashes=2)
            num_ends += 1
        else:
            commit(database, [success(job) for job in held])
    raise AssertionError("it goes on for ever")


def test_poison_among_many_is_found_by_halving_and_failed_with_its_evidence(database: Engine) -> None:
    batch_id = accept(database, 200)
    ids = job_ids(database, batch_id)
    poison = ids[23]
    num_ends = rounds(database, batch_id, poison, Cause.FAULT_SIGNAL)
    assert num_ends <= 1 + 6 + 2  # among 64; halved six times at most; alone twice
    expected = [JobStatus.FAILED if job_id == poison else JobStatus.SUCCEEDED for job_id in ids]
    assert statuses(database, ids) == expected
    row = job_row(database, poison)
    assert row.error_code == "quarantined"
    assert row.error_message is not None
    assert "signal SIGSEGV; then signal SIGSEGV" in row.error_message
    evidence = evidence_of(database, poison)
    assert [loss.alone for loss in evidence[-2:]] == [True, True]
    assert evidence[0].num_in_flight == 64
    assert len(evidence[0].in_flight) == 50
    numbers = [loss.num_in_flight for loss in evidence]
    assert all(after <= (before + 1) // 2 for before, after in pairwise(numbers))


def test_job_whose_worker_is_killed_every_time_is_parked_and_the_others_finish(database: Engine) -> None:
    batch_id = accept(database, 100)
    ids = job_ids(database, batch_id)
    poison = ids[41]
    num_ends = rounds(database, batch_id, poison, Cause.KILLED)
    assert num_ends == 10
    assert statuses(database, ids) == [
        JobStatus.QUEUED if job_id == poison else JobStatus.SUCCEEDED for job_id in ids
    ]
    report = batch_status(database, batch_id)
    assert (report.counts.queued, report.counts.failed, report.num_parked) == (1, 0, 1)
    assert report.status is BatchStatus.RUNNING
    assert not report.goes_on
    assert report.waiting_reason is not None
    assert "pressroom retry" in report.waiting_reason
    (parked,) = report.parked
    assert (parked.job_id, len(parked.losses)) == (poison, 10)
    assert job_detail(database, poison).result.parked_at is not None


def test_retry_releases_parked_jobs_and_their_losses_count_no_more(database: Engine) -> None:
    ids = job_ids(database, accept(database, 3))
    for job_id in ids[:2]:
        for number in range(10):
            reaped = lose(database, [job_id], Cause.KILLED, alone=number > 0)
        assert reaped.num_parked == 1
    batch_id = job_row(database, ids[0]).batch_id
    assert claim(database, ids[:2], alone=True) == []  # by no message, however late
    assert dispatch.take_suspects(database, "cpu") == []
    assert batches.retry_unfinished(database, batch_id, job_id=ids[0]) == 1
    assert [job_row(database, job_id).parked_at is None for job_id in ids] == [True, False, True]
    assert dispatch.take(database, batch_id, 10) == [ids[0], ids[2]]
    assert lose(database, [ids[0]], Cause.KILLED).num_parked == 0
    assert batches.retry_unfinished(database, batch_id) == 1
    assert batch_status(database, batch_id).num_parked == 0


@pytest.mark.parametrize("cause", [Cause.KILLED, Cause.NO_WORD, Cause.LEASE_LOST, Cause.STOPPED])
def test_no_number_of_workers_ended_from_outside_fails_a_job(database: Engine, cause: Cause) -> None:
    ids = job_ids(database, accept(database, 1))
    for number in range(15):
        assert lose(database, ids, cause, alone=number > 1).num_quarantined == 0
        set_job(database, ids, parked_at=None)
    assert statuses(database, ids) == [JobStatus.QUEUED]
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.LOST] * 15


def test_crashes_with_others_in_flight_only_narrow_suspicion(database: Engine) -> None:
    ids = job_ids(database, accept(database, 2))
    lose(database, ids, Cause.EXIT_CODE)
    groups = {job_row(database, job_id).suspect_group for job_id in ids}
    assert None not in groups
    assert len(groups) == 2
    for _ in range(5):  # however often they meet again
        assert lose(database, ids, Cause.EXIT_CODE, alone=True).num_quarantined == 0
    assert not any(loss.alone for job_id in ids for loss in evidence_of(database, job_id))


def test_a_worker_that_was_stopped_makes_no_suspects(database: Engine) -> None:
    ids = job_ids(database, accept(database, 4))
    for _ in range(12):
        lose(database, ids, Cause.STOPPED)
    assert {job_row(database, job_id).suspect_group for job_id in ids} == {None}


@pytest.mark.parametrize("ending", ["success", "failure"])
def test_an_attempt_that_ends_by_itself_clears_the_job_of_its_losses(database: Engine, ending: str) -> None:
    ids = job_ids(database, accept(database, 1))
    lose(database, ids, Cause.EXIT_CODE)
    lose(database, ids, Cause.EXIT_CODE, alone=True)
    (job,) = claim(database, ids, alone=True)
    commit(database, [success(job) if ending == "success" else failure(job, status=JobStatus.QUEUED)])
    if ending == "failure":
        set_job(database, ids, available_at=job_row(database, ids[0]).queued_at)
        assert lose(database, ids, Cause.EXIT_CODE).num_quarantined == 0
        assert lose(database, ids, Cause.EXIT_CODE, alone=True).num_quarantined == 0


def test_a_drained_suspect_stays_a_suspect(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1))
    lose(database, ids, Cause.EXIT_CODE)
    (job,) = claim(database, ids, alone=True)
    leases.give_back(database, {job.id: job.attempt})
    assert dispatch.take_suspects(database, "cpu") == ids


def test_word_of_a_workers_end_frees_its_jobs_at_once_and_leaves_the_others(database: Engine) -> None:
    ids = job_ids(database, accept(database, 4))
    claim(database, ids[:2], worker="dead")
    claim(database, ids[2:], worker="alive")
    end_worker(database, "dead", Cause.KILLED)
    assert reap_expired_leases(database, max_crashes=2).num_requeued == 2
    assert statuses(database, ids) == ["queued", "queued", "running", "running"]


def test_word_that_comes_late_completes_the_evidence(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1))
    claim(database, ids, worker="late")
    run_out_leases(database, ids)
    reap_expired_leases(database, max_crashes=2)
    assert [loss.cause for loss in evidence_of(database, ids[0])] == [Cause.NO_WORD]
    end_worker(database, "late", Cause.HEARTBEAT_LOST, signal="SIGKILL")
    (loss,) = evidence_of(database, ids[0])
    assert (loss.cause, loss.signal, loss.num_in_flight) == (Cause.HEARTBEAT_LOST, "SIGKILL", 1)


def test_a_worker_that_lives_says_so_of_the_lease_that_it_lost(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1))
    (job,) = claim(database, ids)
    run_out_leases(database, ids)
    reap_expired_leases(database, max_crashes=2)
    leases.note_survival(database, {job.id: job.attempt})
    assert [loss.cause for loss in evidence_of(database, ids[0])] == [Cause.LEASE_LOST]


def test_suspects_are_left_out_of_shards_and_taken_one_group_at_a_time(database: Engine) -> None:
    batch_id = accept(database, 9)
    ids = job_ids(database, batch_id)
    lose(database, ids[:4], Cause.EXIT_CODE)
    assert dispatch.demands(database, "cpu", limit=100)[0].num_unsent == 5
    assert dispatch.take(database, batch_id, 100) == ids[4:]
    first = dispatch.take_suspects(database, "cpu")
    assert len(first) == 2
    assert claim(database, first) == []  # a message from before the suspicion
    assert dispatch.take_suspects(database, "cpu") == []  # a group is on its way
    held = claim(database, first, alone=True)
    assert dispatch.take_suspects(database, "cpu") == []  # it runs
    commit(database, [success(job) for job in held])
    assert set(dispatch.take_suspects(database, "cpu")) == set(ids[:4]) - set(first)


def test_suspects_of_one_profile_do_not_hold_up_another(database: Engine) -> None:
    for profile in ("cpu", "default"):
        lose(database, job_ids(database, accept(database, 1, new_batch(profile=profile))), Cause.EXIT_CODE)
    assert dispatch.take_suspects(database, "cpu")
    assert dispatch.take_suspects(database, "default")
    assert dispatch.take_suspects(database, "other") == []
