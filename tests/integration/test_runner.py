"""The life of a job in a worker: claim -> run -> store -> commit, on real Postgres and S3."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db import recovery
from db.reports import batch_status, job_detail
from db.stages import NewJob
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
from jobs.provenance import CodeFacts, sha256_hex
from pressroom.results import check_job
from storage.memory import MemoryStore
from storage.resources import artifact_key
from storage.store import Store
from tests.factories import (
    accept,
    artifact_place,
    attempt_outcomes,
    claim,
    job_ids,
    job_row,
    new_batch,
    new_jobs,
    read_place,
    run_out_leases,
    set_job,
    statuses,
    wait_until,
)
from tests.fakes import MODEL, FailingStore, FakeEngine, fake_models
from workers.attempt import JobServices, WorkerIdentity
from workers.ports import open_ports
from workers.publisher import Publisher
from workers.runner import Runner
from workers.settings import Settings

NUM_PLACES = 4


def settings(**values: float) -> Settings:
    given: dict[str, object] = {"backoff_seconds": 0.0, "commit_interval_seconds": 0.01, **values}
    return Settings.model_validate(given)


@contextmanager
def running(
    database: Engine,
    *,
    store: Store | None = None,
    engine: FakeEngine | None = None,
    config: Settings | None = None,
    name: str = "worker-a",
    on_broken: Callable[[], None] = lambda: None,
) -> Iterator[Runner]:
    """A worker's runner, closed afterwards."""
    kept = store or MemoryStore()
    runner = Runner(
        database=database,
        services=JobServices(
            models=fake_models(engine or FakeEngine()),
            ports=open_ports(database, kept, config or settings()),
            publisher=Publisher(kept, CodeFacts("0", "test")),
            settings=config or settings(),
            worker=WorkerIdentity(name, "cpu"),
        ),
        num_places=NUM_PLACES,
        on_broken=on_broken,
    )
    with ExitStack() as exits:
        exits.callback(runner.close, 30.0)
        yield runner


def run_to_the_end(runner: Runner, database: Engine, ids: list[UUID]) -> None:
    """Ring the doorbell until every job is final, as the dispatcher does."""

    def all_final() -> bool:
        runner.run_shard(ids, celery_task_id="task-1")
        return all(status.is_final for status in statuses(database, ids))

    wait_until(all_final, "every job is final")


def test_records_that_the_kind_has_no_writer_for_fail_their_job_at_once_and_no_other(
    database: Engine,
) -> None:
    jobs = [*new_jobs(2), NewJob("line-2", {"text": "kept nowhere", "act": "records"})]
    ids = job_ids(database, accept(database, jobs))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    assert statuses(database, ids) == ["succeeded", "succeeded", "failed"]
    row = job_row(database, ids[2])
    assert (row.error_code, row.attempt) == ("records_without_writer", 1)
    assert "'trial'" in (row.error_message or "")


def test_a_job_goes_from_queued_to_stored_with_its_provenance(database: Engine, store: Store) -> None:
    batch_id = accept(database, new_jobs(6, act="ask"))
    ids = job_ids(database, batch_id)
    with running(database, store=store) as runner:
        run_to_the_end(runner, database, ids)
    report = batch_status(database, batch_id)
    assert (report.status, report.counts.succeeded) == (BatchStatus.FINISHED, 6)
    result = job_detail(database, ids[0]).result
    assert result.statement is not None
    body = read_place(store, artifact_place(database, ids[0]))
    assert sha256_hex(body) == result.sha256
    assert body.decode() == result.metrics["text"]
    statement = json.loads(result.statement)
    assert statement["subject"] == [{"name": "trial.txt", "digest": {"sha256": result.sha256}}]
    predicate = statement["predicate"]
    assert predicate["job"]["id"] == str(ids[0])
    assert predicate["job"]["batch"] == str(batch_id)
    assert predicate["job"]["kind"] == "trial@1"
    assert predicate["job"]["attempt"] == 1
    assert predicate["model"]["weightsSha256"] == "a" * 64
    assert predicate["engine"]["name"] == "fake"
    assert predicate["worker"]["celeryTaskId"] == "task-1"
    assert predicate["worker"]["id"] == "worker-a"
    assert predicate["generations"][0]["finishReason"] == "stop"
    assert predicate["usage"]["newTokens"] == result.usage.new_tokens == 3


def test_small_results_of_several_jobs_are_one_archive_with_their_statements(
    database: Engine, store: Store
) -> None:
    ids = job_ids(database, accept(database, NUM_PLACES))
    with running(database, store=store, config=settings(commit_interval_seconds=30.0)) as runner:
        run_to_the_end(runner, database, ids)
    packs = list(store.keys("packs/"))
    files: dict[str, bytes] = {}
    for key in packs:
        body = store.get(key)
        assert key.endswith(sha256_hex(body))
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            files |= {name: archive.read(name) for name in archive.namelist()}
    assert len(packs) == 1
    assert list(store.keys("artifacts/")) == []
    for job_id in ids:
        result = job_detail(database, job_id).result
        assert sha256_hex(files[f"{job_id}.1/trial.txt"]) == result.sha256
        assert files[f"{job_id}.1.statement.json"] == result.statement


@pytest.mark.parametrize("act", ["large", "resource"])
def test_large_artifact_and_resource_are_objects_under_their_digests(
    database: Engine, store: Store, act: str
) -> None:
    ids = job_ids(database, accept(database, new_jobs(1, act=act)))
    with running(database, store=store) as runner:
        run_to_the_end(runner, database, ids)
    result = job_detail(database, ids[0]).result
    assert result.object_key == artifact_key(result.sha256 or "")
    assert sha256_hex(store.get(result.object_key)) == result.sha256
    payload = job_detail(database, ids[0]).result.payload
    assert check_job(database, store, ids[0], payload) == result.statement


def test_a_job_that_asks_no_model_names_none(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1, new_batch(model="not warm anywhere")))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    statement = job_detail(database, ids[0]).result.statement
    assert statement is not None
    assert json.loads(statement)["predicate"]["model"] is None


def test_more_jobs_than_places_all_finish(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(5 * NUM_PLACES, act="ask")))
    with running(database) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: set(statuses(database, ids)) == {JobStatus.SUCCEEDED}, "all succeeded")
        wait_until(lambda: runner.num_in_flight == 0, "every place is free")
    assert all(job_row(database, job_id).attempt == 1 for job_id in ids)


@pytest.mark.attack("replayed message of a finished attempt")
def test_a_replayed_message_runs_nothing(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(2, act="ask")))
    engine = FakeEngine()
    with running(database, engine=engine) as runner:
        run_to_the_end(runner, database, ids)
        runner.run_shard([*ids, *ids], celery_task_id="replayed")
    assert len(engine.requests) == 2
    assert all(job_row(database, job_id).attempt == 1 for job_id in ids)


def test_a_permanent_error_fails_at_once(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(1, act="permanent")))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    row = job_row(database, ids[0])
    assert (row.status, row.error_code, row.attempt) == (JobStatus.FAILED, "trial_permanent", 1)


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("transient", "trial_transient"),
        ("bug", "internal_keyerror"),
        ("exit", "internal_systemexit"),
    ],
)
def test_other_errors_are_retried_and_every_attempt_keeps_its_own(
    database: Engine, act: str, code: str
) -> None:
    ids = job_ids(database, accept(database, new_jobs(1, act=act)))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    detail = job_detail(database, ids[0])
    assert detail.result.status is JobStatus.FAILED
    assert [(a.outcome, a.error_code) for a in detail.attempts] == [(AttemptOutcome.FAILED, code)] * 3
    assert "text 0" not in (detail.result.error_message or "")  # a payload's text is not for logs


def test_an_error_takes_no_place_with_it(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(NUM_PLACES, act="exit")))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
        wait_until(lambda: runner.num_in_flight == 0, "every place is free")
        more = job_ids(database, accept(database, new_jobs(NUM_PLACES)))
        run_to_the_end(runner, database, more)
    assert set(statuses(database, ids)) == {JobStatus.FAILED}
    assert set(statuses(database, more)) == {JobStatus.SUCCEEDED}


def test_a_retry_waits_for_its_backoff(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(1, act="transient")))
    with running(database, config=settings(backoff_seconds=1000)) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: job_row(database, ids[0]).num_failures == 1, "the first attempt failed")
        runner.run_shard(ids, celery_task_id="task-2")
    assert (job_row(database, ids[0]).attempt, statuses(database, ids)) == (1, [JobStatus.QUEUED])


def test_a_job_that_may_fail_a_thousand_times_is_still_committed(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(1, act="transient"), new_batch(max_attempts=32_000)))
    set_job(database, ids, num_failures=5000)
    with running(database, config=settings(backoff_seconds=2.0)) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: job_row(database, ids[0]).num_failures == 5001, "the failure is committed")
    assert statuses(database, ids) == [JobStatus.QUEUED]


def test_a_result_that_cannot_be_stored_fails_alone(database: Engine) -> None:
    jobs = [*new_jobs(3), *(job for job in new_jobs(4, act="odd_metrics")[3:])]
    ids = job_ids(database, accept(database, jobs))
    with running(database, config=settings(commit_interval_seconds=0.2)) as runner:
        run_to_the_end(runner, database, ids)
        assert statuses(database, ids) == ["succeeded"] * 3 + ["failed"]
        assert job_row(database, ids[3]).error_code == "result_unstorable"
        more = job_ids(database, accept(database, 1))
        run_to_the_end(runner, database, more)  # the committer lives


@pytest.mark.parametrize("act", ["no_output", "odd_output"])
def test_an_output_that_its_stage_does_not_declare_fails_the_job_at_once(database: Engine, act: str) -> None:
    store = MemoryStore()
    ids = job_ids(database, accept(database, new_jobs(1, act=act)))
    with running(database, store=store) as runner:
        run_to_the_end(runner, database, ids)
    row = job_row(database, ids[0])
    assert (row.status, row.attempt, row.error_code) == (JobStatus.FAILED, 1, "output_unfit")
    assert row.error_message is not None
    assert "stage write of the kind trial must return TrialOutput" in row.error_message
    assert (row.output, list(store.keys(""))) == (None, [])


def test_an_output_is_kept_apart_from_the_metrics(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    detail = job_detail(database, ids[0])
    assert (detail.output, detail.result.metrics) == ({"text": "text 0"}, {"text": "text 0"})


def test_a_store_that_is_away_is_tried_again(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1))
    with running(database, store=FailingStore(1)) as runner:
        run_to_the_end(runner, database, ids)
    assert statuses(database, ids) == [JobStatus.SUCCEEDED]
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.SUCCEEDED]


def test_a_store_that_stays_away_costs_a_job_no_attempt(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.held_jobs.HANDOVER_SECONDS", 0.0)
    hung = threading.Event()
    ids = job_ids(database, accept(database, NUM_PLACES + 1))
    config = settings(lease_seconds=0.3, job_timeout_seconds=1.0)
    with running(database, store=FailingStore(10_000), config=config, on_broken=hung.set) as runner:
        runner.run_shard(ids[:NUM_PLACES], celery_task_id="task-1")
        assert runner.num_in_flight == NUM_PLACES  # those that wait keep others from being claimed
        wait_until(lambda: runner.num_in_flight == 0, "the jobs were given back")
    assert statuses(database, ids) == [JobStatus.QUEUED] * len(ids)
    row = job_row(database, ids[0])
    assert (row.num_failures, row.suspect_group) == (0, None)
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.GIVEN_BACK]
    assert not hung.is_set()


def test_jobs_claimed_in_advance_are_given_back_when_long_ones_follow(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(20, act="ask")))
    config = settings(lease_seconds=0.6, job_timeout_seconds=2.0)
    with running(database, engine=engine, config=config) as runner:
        runner._capacity.note_succeeded(1000)  # as if a thousand short jobs had just succeeded
        runner.run_shard(ids, celery_task_id="task-1")
        assert runner.num_in_flight == len(ids)
        wait_until(lambda: runner.num_in_flight == NUM_PLACES, "the jobs that wait are given back")
        waiting = [
            job_id for job_id, status in zip(ids, statuses(database, ids), strict=True) if status == "queued"
        ]
        assert waiting == ids[NUM_PLACES:]
        assert {job_row(database, job_id).num_failures for job_id in ids} == {0}
        engine.let_go()
        wait_until(lambda: runner.num_in_flight == 0, "the others end")
    assert statuses(database, ids[:NUM_PLACES]) == ["succeeded"] * NUM_PLACES


def test_the_time_that_a_job_waits_for_its_turn_does_not_count(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(12, act="nap")))
    config = settings(job_timeout_seconds=0.5, lease_seconds=30.0)
    with running(database, config=config) as runner:
        runner._capacity.note_succeeded(1000)
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: runner.num_in_flight == 0, "each has had its turn")
    assert set(statuses(database, ids)) == {"succeeded"}
    assert {job_row(database, job_id).num_failures for job_id in ids} == {0}


def test_stopping_worker_gives_back_at_once_what_waits_for_its_turn(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(20, act="ask")))
    with running(database, engine=engine) as runner:
        runner._capacity.note_succeeded(1000)
        runner.run_shard(ids, celery_task_id="task-1")
        closing = threading.Thread(target=runner.close, args=(30.0,))
        closing.start()
        wait_until(
            lambda: statuses(database, ids).count(JobStatus.QUEUED) == 16, "those that wait are given back"
        )
        engine.let_go()
        closing.join(30.0)
    assert statuses(database, ids).count(JobStatus.SUCCEEDED) == NUM_PLACES


def test_an_engine_that_ends_costs_its_jobs_no_attempt(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(2, act="ask")))
    with running(database, engine=engine) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: engine.num_waiting == 2, "the engine has the requests")
        engine.close()
        wait_until(lambda: runner.num_in_flight == 0, "the jobs were given back")
    assert statuses(database, ids) == [JobStatus.QUEUED] * 2
    assert job_row(database, ids[0]).num_failures == 0
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.GIVEN_BACK]


def test_a_model_that_is_not_warm_fails_the_job_with_what_to_do(database: Engine) -> None:
    ids = job_ids(database, accept(database, new_jobs(1, act="ask"), new_batch(model="cold")))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    row = job_row(database, ids[0])
    assert (row.status, row.error_code) == (JobStatus.FAILED, "model_not_warm")
    assert MODEL in (row.error_message or "")


def test_a_kind_that_is_not_installed_here_is_tried_again(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1, new_batch(kind="elsewhere")))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    assert [a.error_code for a in job_detail(database, ids[0]).attempts] == ["kind_unknown"] * 3


def test_a_payload_of_another_version_fails_with_what_to_do(database: Engine) -> None:
    ids = job_ids(database, accept(database, [NewJob("old", {"words": 3})]))
    with running(database) as runner:
        run_to_the_end(runner, database, ids)
    assert job_row(database, ids[0]).error_code == "payload_outdated"


def test_the_deadline_of_the_batch_expires_a_job_and_that_of_an_attempt_is_tried_again(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.inference.ENGINE_GRACE_SECONDS", 0.1)
    engine = FakeEngine(held=True)
    overdue = new_batch(deadline_seconds=0.001, model=MODEL)
    expired = job_ids(database, accept(database, new_jobs(1, act="ask"), overdue))
    slow = job_ids(database, accept(database, new_jobs(1, act="ask")))
    with running(database, engine=engine, config=settings(job_timeout_seconds=0.2)) as runner:
        runner.run_shard([*expired, *slow], celery_task_id="task-1")
        wait_until(lambda: runner.num_in_flight == 0, "both are given up")
        assert statuses(database, [*expired, *slow]) == [JobStatus.EXPIRED, JobStatus.QUEUED]
        assert job_row(database, slow[0]).error_code == "deadline_exceeded"
        assert engine.num_waiting == 0  # the engine was told
        engine.let_go()
        run_to_the_end(runner, database, slow)
    assert statuses(database, slow) == [JobStatus.SUCCEEDED]


def test_heartbeats_keep_a_lease_that_is_shorter_than_the_job(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(1, act="ask")))
    with running(database, engine=engine, config=settings(lease_seconds=3.0)) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        claimed_until = job_row(database, ids[0]).lease_expires_at
        assert claimed_until is not None

        def renewed_twice() -> bool:
            assert recovery.reap_expired_leases(database, max_crashes=3).num_requeued == 0
            until = job_row(database, ids[0]).lease_expires_at
            assert until is not None
            return (until - claimed_until).total_seconds() > 1.5

        wait_until(renewed_twice, "the lease was renewed more than once")
        engine.let_go()
        wait_until(lambda: statuses(database, ids) == [JobStatus.SUCCEEDED], "the job succeeded")


def test_a_job_that_does_not_return_is_reported_as_hung(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.held_jobs.HANDOVER_SECONDS", 0.0)
    hung = threading.Event()
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(1, act="ask")))
    config = settings(lease_seconds=0.3, job_timeout_seconds=0.01)
    with running(database, engine=engine, config=config, on_broken=hung.set) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        assert hung.wait(30.0)
        engine.let_go()


def test_a_lost_lease_abandons_the_work(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(1, act="ask")))
    with running(database, engine=engine, config=settings(lease_seconds=0.6)) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: engine.num_waiting == 1, "the engine has the request")
        lose(database, ids)
        (elsewhere,) = claim(database, ids, worker="worker-b")
        wait_until(lambda: runner.num_in_flight == 0, "the work was abandoned")
    assert engine.num_waiting == 0
    assert (elsewhere.attempt, statuses(database, ids)) == (2, [JobStatus.RUNNING])


def lose(database: Engine, ids: list[UUID]) -> None:
    """Reap the leases, however quickly their holder renews them."""

    def reaped() -> bool:
        run_out_leases(database, ids)
        return recovery.reap_expired_leases(database, max_crashes=99).num_requeued == len(ids)

    wait_until(reaped, "the leases were reaped")


def test_a_lost_job_that_comes_back_to_the_same_worker_is_run_again_and_leaks_no_place(
    database: Engine,
) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(1, act="ask")))
    with running(database, engine=engine, config=settings(lease_seconds=0.6)) as runner:
        runner.run_shard(ids, celery_task_id="task-1")
        wait_until(lambda: engine.num_waiting == 1, "the engine has the first request")
        lose(database, ids)
        runner.run_shard(ids, celery_task_id="task-2")
        wait_until(lambda: job_row(database, ids[0]).attempt == 2, "the worker has claimed it again")
        wait_until(lambda: runner.num_in_flight == 1, "the lost attempt was abandoned")
        engine.let_go()
        wait_until(lambda: statuses(database, ids) == [JobStatus.SUCCEEDED], "the job succeeded")
        wait_until(lambda: runner.num_in_flight == 0, "every place is free")
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]


def test_closing_gives_back_what_is_unfinished_and_claims_no_more(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(3, act="ask")))
    with running(database, engine=engine) as runner:
        runner.run_shard(ids[:2], celery_task_id="task-1")
        runner.close(0.0)
        runner.run_shard(ids, celery_task_id="task-2")
    assert statuses(database, ids) == [JobStatus.QUEUED] * 3
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.GIVEN_BACK]
    assert job_row(database, ids[0]).num_failures == 0


def test_draining_finishes_what_has_begun(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(2, act="ask")))
    with running(database, engine=engine) as runner:
        runner.run_shard(ids[:1], celery_task_id="task-1")
        runner.drain()
        runner.run_shard(ids[1:], celery_task_id="task-2")
        closing = threading.Thread(target=runner.close, args=(30.0,))
        closing.start()
        engine.let_go()
        closing.join()
    assert statuses(database, ids) == [JobStatus.SUCCEEDED, JobStatus.QUEUED]


def test_a_job_that_runs_alone_has_nothing_beside_it(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(4, act="ask")))
    with running(database, engine=engine) as runner:
        runner.run_shard(ids[:2], celery_task_id="task-1")
        alone = threading.Thread(target=runner.run_alone, args=(ids[2:3],), kwargs={"celery_task_id": "t"})
        alone.start()
        wait_until(lambda: engine.num_waiting == 2, "the shard is in the engine")
        assert statuses(database, ids) == ["running", "running", "queued", "queued"]
        engine.let_go()
        alone.join()
        assert statuses(database, ids) == ["succeeded", "succeeded", "succeeded", "queued"]
        run_to_the_end(runner, database, ids)


def test_a_job_that_runs_alone_is_given_back_when_the_worker_stops(database: Engine) -> None:
    engine = FakeEngine(held=True)
    ids = job_ids(database, accept(database, new_jobs(1, act="ask")))
    with running(database, engine=engine) as runner:
        alone = threading.Thread(target=runner.run_alone, args=(ids,), kwargs={"celery_task_id": "t"})
        alone.start()
        wait_until(lambda: engine.num_waiting == 1, "the job is in the engine")
        runner.drain()
        alone.join(30.0)
        assert not alone.is_alive()  # Celery waits for it before it says that the worker shuts down
        runner.close(0.0)
    assert statuses(database, ids) == [JobStatus.QUEUED]
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.GIVEN_BACK]


def test_the_second_stage_of_a_batch_follows_the_last_commit_of_the_first(database: Engine) -> None:
    batch_id = accept(database, 3, new_batch(kind="two_stage", stages=("draft", "polish")))
    with running(database) as runner:
        run_to_the_end(runner, database, job_ids(database, batch_id))
        wait_until(lambda: len(job_ids(database, batch_id, stage=1)) == 3, "the second stage is planned")
        run_to_the_end(runner, database, job_ids(database, batch_id, stage=1))
    assert batch_status(database, batch_id).status is BatchStatus.FINISHED
    polished = job_detail(database, job_ids(database, batch_id, stage=1)[0])
    assert polished.result.metrics["text"] == "text 0, polished"
