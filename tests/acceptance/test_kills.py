"""Whatever is killed while a batch runs, every job is done exactly once.

Real processes and services. The scripted engine is held in the middle of the batch: some results are
committed, the worker holds as many leases as it can, the rest is in the queue. Then something dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from pressroom.embedded.services import Services
from storage import open_store
from tests.acceptance.running import (
    PATIENCE_SECONDS,
    PressroomRun,
    Row,
    pressroom,
    write_briefs,
    write_script,
)
from tests.services import embedded_settings

NUM_JOBS = 24
NUM_HELD = 4
"""Jobs that the worker claims at a time."""

QUEUE = "default"
SUCCEEDED = "SELECT count(*) FROM jobs WHERE status = 'succeeded'"
HELD = "SELECT job_id, attempt, worker_id FROM attempts WHERE outcome = 'running'"
LOST = "SELECT count(*) FROM attempts WHERE outcome = 'lost'"
ENDED_JUST_NOW = "SELECT count(*) FROM attempts WHERE ended_at > clock_timestamp() - interval '0.7 seconds'"
"""Longer than results wait for a common commit: what had left the engine when it was held is in Postgres."""

Held = set[tuple[str, int]]
"""Job and attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Middle:
    """A run in the middle of its batch, its engine held."""

    run: PressroomRun
    worker_id: str
    worker_pid: int
    held: Held
    """The leases of the worker."""
    hold: Path

    def let_go(self) -> None:
        """The engine goes on."""
        self.hold.unlink()


@contextmanager
def middle_of_a_batch(tmp_path: Path, models_dir: Path) -> Iterator[Middle]:
    """Start a run and hold it where something can be lost."""
    hold = tmp_path / "hold"
    script = write_script(tmp_path / "script.json", step_seconds=0.002, hold_file=str(hold))
    with pressroom(
        tmp_path / "home",
        *("run", "articles", write_briefs(tmp_path / "briefs.csv", NUM_JOBS)),
        *("--out", tmp_path / "out", "--json"),
        **environment(models_dir, script),
    ) as run:
        run.wait_until(lambda: run.count(SUCCEEDED) >= 3, "some results")
        hold.touch()
        run.wait_until(
            lambda: len(run.query(HELD)) == NUM_HELD and run.count(ENDED_JUST_NOW) == 0,
            "every lease held by a worker that makes no step",
        )
        worker_id, pid = run.worker()
        rows = run.query(HELD)
        assert {row["worker_id"] for row in rows} == {worker_id}
        assert run.count(SUCCEEDED) < NUM_JOBS - NUM_HELD
        yield Middle(run=run, worker_id=worker_id, worker_pid=pid, held=_pairs(rows), hold=hold)


def environment(models_dir: Path, script: Path) -> dict[str, str]:
    return {
        "engine": "scripted",
        "script": str(script),
        "models_dir": str(models_dir),
        "lease_seconds": "2",
        "drain_seconds": "2",
        "num_slots": str(NUM_HELD),
        "max_jobs_in_flight": str(NUM_HELD),
    }


def _pairs(rows: list[Row]) -> Held:
    return {(str(row["job_id"]), row["attempt"]) for row in rows}


def check_every_job_done_once(run: PressroomRun, tmp_path: Path) -> list[Row]:
    """Wait for the end; look at the summary, Postgres, the store and the folder; return all attempts."""
    code, summary = run.finish()

    assert summary["top_errors"] == [], run.stderr
    assert code == 0, run.stderr
    assert summary["counts"]["succeeded"] == summary["counts"]["total"] == NUM_JOBS
    with Services(embedded_settings(run.home), print) as services:
        store = open_store(services.urls.s3_url)
        run.reconnect()
        artifacts = run.query("SELECT job_id, object_key FROM artifacts")
        attempts = run.query("SELECT job_id, attempt, worker_id, celery_task_id, outcome FROM attempts")
        missing = [row["object_key"] for row in artifacts if not store.exists(row["object_key"])]
    succeeded = [row["job_id"] for row in attempts if row["outcome"] == "succeeded"]
    assert len(succeeded) == len(set(succeeded)) == NUM_JOBS
    assert {row["job_id"] for row in artifacts} == set(succeeded)
    assert len(artifacts) == NUM_JOBS
    assert [row for row in attempts if row["outcome"] == "running"] == []
    assert missing == []
    assert len(list((tmp_path / "out" / "articles").glob("*.md"))) == NUM_JOBS
    return attempts


def of_outcome(attempts: list[Row], outcome: str) -> Held:
    return _pairs([row for row in attempts if row["outcome"] == outcome])


def test_killed_worker_loses_its_leases_and_no_job(tmp_path: Path, model_folder: Path) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        os.kill(middle.worker_pid, signal.SIGKILL)
        middle.let_go()

        attempts = check_every_job_done_once(middle.run, tmp_path)
        lost_jobs = {job_id for job_id, _ in middle.held}
        redone = [
            row["worker_id"]
            for row in attempts
            if str(row["job_id"]) in lost_jobs and row["outcome"] == "succeeded"
        ]
        assert of_outcome(attempts, "lost") == middle.held
        assert middle.worker_id not in redone
        assert "signal SIGKILL" in middle.run.stderr


def test_emptied_valkey_loses_messages_and_no_job(tmp_path: Path, model_folder: Path) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        run = middle.run
        lost = messages(run)
        valkey = run.service_pid("redis_url")
        shutil.rmtree(run.home / "valkey")
        os.kill(valkey, signal.SIGKILL)
        run.wait_until(lambda: run.service_pid("redis_url") != valkey, "a new Valkey")
        run.wait_until(lambda: bool(messages(run)), "messages that were sent again")
        sent_again = messages(run)
        middle.let_go()

        attempts = check_every_job_done_once(run, tmp_path)
        assert lost, "the queue held nothing that could be lost"
        assert not lost & sent_again, "it came back with what it had held"
        assert not lost & {row["celery_task_id"] for row in attempts}


def messages(run: PressroomRun) -> set[str]:
    """Ids of the messages in the queue; none while Valkey is away or still loading."""
    with Redis.from_url(run.service_url("redis_url")) as client:
        try:
            found = client.lrange(QUEUE, 0, -1)
        except RedisConnectionError:
            return set()
    return {json.loads(message)["headers"]["id"] for message in found}


def test_restarted_postgres_finds_the_leases_held_and_no_job_lost(tmp_path: Path, model_folder: Path) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        restart_postgres(middle.run, signal.SIGINT)
        middle.let_go()

        attempts = check_every_job_done_once(middle.run, tmp_path)
        assert middle.held <= of_outcome(attempts, "succeeded") | of_outcome(attempts, "lost")


def test_late_results_of_a_worker_cut_off_from_a_killed_postgres_change_nothing(
    tmp_path: Path, model_folder: Path
) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        run = middle.run
        os.kill(middle.worker_pid, signal.SIGSTOP)
        restart_postgres(run, signal.SIGKILL)
        run.wait_until(lambda: run.count(LOST) == NUM_HELD, "every lease lost")
        middle.let_go()
        os.kill(middle.worker_pid, signal.SIGCONT)

        attempts = check_every_job_done_once(run, tmp_path)
        assert middle.held <= of_outcome(attempts, "lost")


def restart_postgres(run: PressroomRun, how: signal.Signals) -> None:
    """End it in this way and wait for the one that the run starts in its place."""
    postgres = run.service_pid("db_url")
    os.kill(postgres, how)
    run.wait_until(lambda: run.service_pid("db_url") != postgres, "a new Postgres")


def test_killed_run_takes_everything_with_it_and_goes_on_where_it_stopped(
    tmp_path: Path, model_folder: Path
) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        run = middle.run
        batch_id = run.query("SELECT id FROM batches")[0]["id"]
        family = run.family()
        services = [process for process in family if process.pid != middle.worker_pid]
        run.process.kill()
        assert len(services) >= 3  # Postgres, Valkey and S3
        assert psutil.wait_procs(services, timeout=PATIENCE_SECONDS)[1] == []
        middle.let_go()  # too late for the worker, which has nowhere left to commit to
        assert psutil.wait_procs(family, timeout=PATIENCE_SECONDS)[1] == []

    with pressroom(
        run.home,
        *("run", "articles", "--batch", str(batch_id), "--out", tmp_path / "out", "--json"),
        **environment(model_folder.parent, tmp_path / "script.json"),
    ) as resumed:
        attempts = check_every_job_done_once(resumed, tmp_path)
    assert of_outcome(attempts, "lost") == middle.held


def test_interrupted_run_drains_and_goes_on_where_it_stopped(tmp_path: Path, model_folder: Path) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        run = middle.run
        run.interrupt()
        run.wait_until(lambda: "Draining" in run.stderr, "a drain")
        middle.let_go()
        code, summary = run.finish()
    counts = summary["counts"]
    assert code == 1
    assert counts["running"] == 0
    assert 0 < counts["succeeded"] < NUM_JOBS
    assert f"--batch {summary['batch_id']}" in run.stderr
    assert len(list((tmp_path / "out" / "articles").glob("*.md"))) == counts["succeeded"]

    with pressroom(
        run.home,
        *("run", "articles", "--batch", summary["batch_id"], "--out", tmp_path / "out", "--json"),
        **environment(model_folder.parent, tmp_path / "script.json"),
    ) as resumed:
        attempts = check_every_job_done_once(resumed, tmp_path)
    assert of_outcome(attempts, "lost") == set()


def test_signal_to_every_process_at_once_drains_with_services_that_outlive_the_workers(
    tmp_path: Path, model_folder: Path
) -> None:
    with middle_of_a_batch(tmp_path, model_folder.parent) as middle:
        run = middle.run
        # The drain may take as long as it wants to; without Postgres it would take all of it.
        family = [psutil.Process(run.process.pid), *run.family()]
        for process in family:
            process.send_signal(signal.SIGTERM)
        run.wait_until(lambda: "Draining" in run.stderr, "a drain")
        middle.let_go()
        code, summary = run.finish()
        assert psutil.wait_procs(family, timeout=PATIENCE_SECONDS)[1] == []
    assert code == 1
    assert "Traceback" not in run.stderr
    assert "Postgres" in run.stderr.partition("Started again: ")[2]
    assert summary["counts"]["running"] == 0
    assert f"--batch {summary['batch_id']}" in run.stderr
    log = (run.home / "logs" / "worker-default-cpu.log").read_text()
    assert "their leases will expire" not in log

    with pressroom(
        run.home,
        *("run", "articles", "--batch", summary["batch_id"], "--out", tmp_path / "out", "--json"),
        **environment(model_folder.parent, tmp_path / "script.json"),
    ) as resumed:
        attempts = check_every_job_done_once(resumed, tmp_path)
    assert of_outcome(attempts, "lost") == set()


POISON = "poisonous mushrooms"


@contextmanager
def run_with_poison(
    tmp_path: Path, models_dir: Path, script: Mapping[str, object], **settings: str
) -> Iterator[PressroomRun]:
    """Six good jobs, and one of which the script makes what it says."""
    briefs = write_briefs(tmp_path / "briefs.csv", 6)
    briefs.write_text(briefs.read_text() + f"deadly,Title,{POISON},40\n")
    path = write_script(tmp_path / "script.json", step_seconds=0.002, **script)
    with pressroom(
        tmp_path / "home",
        *("run", "articles", briefs, "--out", tmp_path / "out", "--json"),
        **{
            **environment(models_dir, path),
            "max_jobs_in_flight": "2",
            "step_timeout_seconds": "2",
            **settings,
        },
    ) as run:
        yield run


@pytest.mark.attack("job that ends its worker every time")
@pytest.mark.parametrize(
    ("script", "said", "logged"),
    [
        (
            {"kill_text": POISON, "kill_signal": "SIGSEGV"},
            "signal SIGSEGV",
            "Segmentation",
        ),
        ({"hang_text": POISON}, "exit code 70", "stacks of all threads"),
    ],
    ids=["crashes", "hangs"],
)
def test_job_that_ends_its_worker_is_quarantined_and_its_neighbours_finish(
    tmp_path: Path,
    model_folder: Path,
    script: Mapping[str, object],
    said: str,
    logged: str,
) -> None:
    with run_with_poison(tmp_path, model_folder.parent, script) as run:
        code, summary = run.finish(3 * PATIENCE_SECONDS)  # a worker starts anew four times

    assert code == 1
    assert summary["counts"]["succeeded"] == 6, run.stderr
    assert summary["top_errors"] == [{"code": "quarantined", "jobs": 1}]
    assert 2 <= run.stderr.count(said) <= 3  # beside another, and twice alone
    assert logged in (run.home / "logs" / "worker-default-cpu.log").read_text()
    failed = json.loads((tmp_path / "out" / "failed.jsonl").read_text())
    assert failed["error"]["code"] == "quarantined"
    assert said in failed["error"]["message"]


def test_job_whose_worker_is_killed_every_time_is_parked_until_a_user_releases_it(
    tmp_path: Path, model_folder: Path
) -> None:
    script = {"kill_text": POISON}
    with run_with_poison(tmp_path, model_folder.parent, script, max_losses="3") as run:
        code, summary = run.finish(3 * PATIENCE_SECONDS)
    assert code == 1
    assert (summary["counts"]["succeeded"], summary["counts"]["failed"]) == (6, 0), run.stderr
    (parked,) = summary["parked"]
    assert parked["id"] == "deadly"
    assert {loss["signal"] for loss in parked["losses"]} == {"SIGKILL"}
    assert f"pressroom retry {summary['batch_id']}" in run.stderr

    with pressroom(run.home, "status", summary["batch_id"]) as status:
        assert "parked" in status.finish_text()[1]
    with pressroom(run.home, "retry", summary["batch_id"], "deadly") as retry:
        assert retry.finish_text() == (0, "1 job is queued again\n")
    write_script(tmp_path / "script.json")
    with pressroom(
        run.home,
        *("run", "articles", "--batch", summary["batch_id"], "--out", tmp_path / "out", "--json"),
        **environment(model_folder.parent, tmp_path / "script.json"),
    ) as resumed:
        code, summary = resumed.finish()
    assert (code, summary["counts"]["succeeded"], summary["parked"]) == (0, 7, [])
