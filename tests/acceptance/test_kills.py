"""Whatever is killed while a batch runs, every job is done exactly once.

Real processes and services; the scripted engine makes the batch long enough to be hit in the middle.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pressroom.embedded.services import Services
from storage import open_store
from tests.acceptance.running import PressroomRun, pressroom, write_briefs, write_script
from tests.services import embedded_settings

NUM_JOBS = 40

SUCCEEDED = "SELECT count(*) FROM jobs WHERE status = 'succeeded'"
RUNNING = "SELECT count(*) FROM jobs WHERE status = 'running'"
LOST = "SELECT count(*) FROM attempts WHERE outcome = 'lost'"


@pytest.fixture
def briefs(tmp_path: Path) -> Path:
    return write_briefs(tmp_path / "briefs.csv", NUM_JOBS)


@contextmanager
def batch_under_way(tmp_path: Path, briefs: Path, models_dir: Path) -> Iterator[PressroomRun]:
    """A run of which some results are committed and some leases are held."""
    script = write_script(tmp_path / "script.json", step_seconds=0.01)
    with pressroom(
        tmp_path / "home",
        *("run", "articles", briefs, "--out", tmp_path / "out", "--json"),
        engine="scripted",
        script=str(script),
        models_dir=str(models_dir),
        lease_seconds="3",
        num_slots="4",
        max_jobs_in_flight="6",
    ) as run:
        run.wait_until(
            lambda: run.count(SUCCEEDED) >= 5 and run.count(RUNNING) >= 1, "results and leases at once"
        )
        yield run


def check_every_job_done_once(run: PressroomRun, tmp_path: Path) -> None:
    """The run's own summary, then Postgres and the store as they are after it."""
    code, summary = run.finish()

    assert summary["top_errors"] == [], run.stderr
    assert code == 0, run.stderr
    assert summary["counts"]["succeeded"] == summary["counts"]["total"] == NUM_JOBS
    with Services(embedded_settings(run.home), print) as services:
        store = open_store(services.urls.s3_url)
        run.reconnect()
        artifacts = run.query("SELECT job_id, object_key FROM artifacts")
        succeeded = run.query("SELECT job_id, count(*) FROM attempts WHERE outcome = 'succeeded' GROUP BY 1")
        open_attempts = run.count("SELECT count(*) FROM attempts WHERE outcome = 'running'")
        missing = [row["object_key"] for row in artifacts if not store.exists(row["object_key"])]
    assert len({row["job_id"] for row in artifacts}) == len(artifacts) == NUM_JOBS
    assert [row["count"] for row in succeeded] == [1] * NUM_JOBS
    assert open_attempts == 0
    assert missing == []
    assert len(list((tmp_path / "out" / "articles").glob("*.md"))) == NUM_JOBS


def test_killed_worker_loses_its_leases_and_no_job(tmp_path: Path, briefs: Path, model_folder: Path) -> None:
    with batch_under_way(tmp_path, briefs, model_folder.parent) as run:
        committed_before = run.count(SUCCEEDED)
        os.kill(run.worker_pid(), signal.SIGKILL)
        run.wait_until(lambda: run.count(LOST) >= 1, "leases that the dead worker lost")

        assert committed_before >= 5
        check_every_job_done_once(run, tmp_path)


def test_emptied_valkey_loses_messages_and_no_job(tmp_path: Path, briefs: Path, model_folder: Path) -> None:
    with batch_under_way(tmp_path, briefs, model_folder.parent) as run:
        valkey = run.service_pid("redis_url")
        shutil.rmtree(run.home / "valkey")
        os.kill(valkey, signal.SIGKILL)
        run.wait_until(lambda: run.service_pid("redis_url") != valkey, "a new Valkey")

        check_every_job_done_once(run, tmp_path)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["restarted", "killed"])
def test_postgres_comes_back_and_no_job_is_lost(
    tmp_path: Path, briefs: Path, model_folder: Path, how: signal.Signals
) -> None:
    with batch_under_way(tmp_path, briefs, model_folder.parent) as run:
        postgres = run.service_pid("db_url")
        os.kill(postgres, how)
        run.wait_until(lambda: run.service_pid("db_url") != postgres, "a new Postgres")

        check_every_job_done_once(run, tmp_path)


def test_interrupted_run_drains_and_goes_on_where_it_stopped(
    tmp_path: Path, briefs: Path, model_folder: Path
) -> None:
    with batch_under_way(tmp_path, briefs, model_folder.parent) as run:
        run.interrupt()
        code, summary = run.finish()
    counts = summary["counts"]
    assert code == 130
    assert counts["running"] == 0
    assert 0 < counts["succeeded"] < NUM_JOBS
    assert f"--batch {summary['batch_id']}" in run.stderr
    assert len(list((tmp_path / "out" / "articles").glob("*.md"))) == counts["succeeded"]

    with pressroom(
        run.home,
        *("run", "articles", "--batch", summary["batch_id"], "--out", tmp_path / "out", "--json"),
        engine="scripted",
        models_dir=str(model_folder.parent),
    ) as resumed:
        check_every_job_done_once(resumed, tmp_path)


def test_job_that_kills_its_worker_is_quarantined_and_its_neighbours_finish(
    tmp_path: Path, model_folder: Path
) -> None:
    briefs = write_briefs(tmp_path / "briefs.csv", 8)
    briefs.write_text(briefs.read_text() + "killer,Title,poisonous mushrooms,40\n")
    script = write_script(tmp_path / "script.json", kill_text="poisonous mushrooms", step_seconds=0.005)
    with pressroom(
        tmp_path / "home",
        *("run", "articles", briefs, "--out", tmp_path / "out", "--json"),
        engine="scripted",
        script=str(script),
        models_dir=str(model_folder.parent),
        lease_seconds="1",
    ) as run:
        code, summary = run.finish()

    assert code == 1
    assert summary["counts"]["succeeded"] == 8, run.stderr
    assert summary["top_errors"] == [{"code": "quarantined", "jobs": 1}]
