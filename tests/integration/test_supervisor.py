"""One worker process for each device: pinned, restarted, drained, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from db.recovery import reap_expired_leases
from jobs.losses import Cause
from pressroom import serve
from pressroom.embedded.services import ServiceUrls
from tests.conftest import PLUGINS
from tests.factories import accept, claim, evidence_of, job_ids, new_jobs, wait_until
from tests.workers import PROFILE, START_SECONDS, supervised, wait_until_ready, worker_rows
from workers.celery import RUN_ALONE, make_app
from workers.devices import Device
from workers.settings import Settings
from workers.supervisor import Supervisor, WorkerStartError

PARENT = """
import json, sys, time
from pathlib import Path
from pressroom.embedded.services import ServiceUrls
from tests.workers import supervised

with supervised(Path(sys.argv[1]), ServiceUrls(**json.loads(sys.stdin.readline()))) as supervisor:
    print(json.dumps(supervisor.pids), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def urls(services: ServiceUrls, database_url: str, redis_url: str) -> ServiceUrls:
    return ServiceUrls(db_url=database_url, redis_url=redis_url, s3_url=services.s3_url)


def environment_of(pid: int) -> dict[str, str]:
    return psutil.Process(pid).environ()


def check_until_restarted(supervisor: Supervisor, index: int, old_pid: int) -> list[str]:
    """What the supervisor says on the way."""
    said: list[str] = []

    def restarted() -> bool:
        said.extend(supervisor.check())
        return supervisor.pids[index] != old_pid

    wait_until(restarted, "the worker was started again")
    return said


def test_each_gpu_gets_a_worker_that_sees_it_alone_and_a_dead_one_comes_back(
    database: Engine, urls: ServiceUrls, tmp_path: Path
) -> None:
    with supervised(tmp_path, urls, devices=("cuda:0", "cuda:1")) as supervisor:
        wait_until_ready(database, supervisor)
        visible = [environment_of(pid)["CUDA_VISIBLE_DEVICES"] for pid in supervisor.pids]
        assert visible == ["0", "1"]
        assert {row.device for row in worker_rows(database)} == {"cuda:0", "cuda:1"}
        assert supervisor.check() == []

        (first_id, second_id), (first_pid, second_pid) = supervisor.worker_ids, supervisor.pids
        os.kill(second_pid, signal.SIGKILL)
        said = check_until_restarted(supervisor, 1, second_pid)
        assert len(said) == 1
        assert "cuda:1" in said[0]
        assert "SIGKILL" in said[0]
        wait_until_ready(database, supervisor)
        assert (supervisor.pids[0], supervisor.worker_ids[0]) == (first_pid, first_id)
        assert supervisor.worker_ids[1] != second_id
        assert environment_of(supervisor.pids[1])["CUDA_VISIBLE_DEVICES"] == "1"
    stopped = {row.id for row in worker_rows(database) if row.stopped_at}
    assert stopped == {row.id for row in worker_rows(database)} - {second_id}


@pytest.mark.attack("process that holds the interpreter lock")
def test_a_worker_that_stands_still_is_ended_with_its_stacks_and_its_job_keeps_the_evidence(
    database: Engine, urls: ServiceUrls, tmp_path: Path
) -> None:
    with supervised(tmp_path, urls, lease_seconds=7.5) as supervisor:
        wait_until_ready(database, supervisor)
        (job_id,) = job_ids(database, accept(database, new_jobs(1, act="stall")))
        app = make_app(lambda: urls.redis_url)
        app.send_task(RUN_ALONE, ([str(job_id)],), queue=PROFILE)
        app.close()
        said: list[str] = []

        def ended() -> bool:
            said.extend(supervisor.check())
            return bool(said)

        wait_until(ended, "the worker was ended", seconds=START_SECONDS)
        assert "because it hung" in said[0]
        assert reap_expired_leases(database, max_crashes=2).num_requeued == 1
    (loss,) = evidence_of(database, job_id)
    assert (loss.cause, loss.alone, loss.num_in_flight) == (Cause.HEARTBEAT_LOST, True, 1)
    (log_path,) = (tmp_path / "logs").glob("worker-*.log")
    log = log_path.read_text()
    assert "no sign of life" in log
    assert "kinds.py" in log.partition("no sign of life")[2]  # the line that holds the interpreter


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, Cause.KILLED), (signal.SIGTERM, Cause.STOPPED)], ids=str
)
def test_how_a_worker_was_ended_from_outside_is_kept_and_its_jobs_wait_for_no_lease(
    database: Engine, urls: ServiceUrls, tmp_path: Path, number: signal.Signals, cause: Cause
) -> None:
    ids = job_ids(database, accept(database, 2))
    with supervised(tmp_path, urls, lease_seconds=3600.0) as supervisor:
        wait_until_ready(database, supervisor)
        claim(database, ids, worker=supervisor.worker_ids[0], lease_seconds=3600.0)
        os.kill(supervisor.pids[0], number)
        check_until_restarted(supervisor, 0, supervisor.pids[0])
        assert reap_expired_leases(database, max_crashes=2).num_requeued == 2
    assert [(loss.cause, loss.num_in_flight) for loss in evidence_of(database, ids[0])] == [(cause, 2)]


def test_a_worker_that_cannot_start_says_why_and_is_not_started_again(
    database: Engine, urls: ServiceUrls, tmp_path: Path
) -> None:
    with supervised(tmp_path, urls, profile="no-such-profile") as supervisor:
        with pytest.raises(WorkerStartError, match="there is no worker profile 'no-such-profile'") as error:
            wait_until(lambda: bool(supervisor.check()), "the worker ended", seconds=START_SECONDS)
        assert error.value.code == "worker_cannot_start"


@pytest.mark.parametrize(
    ("variable", "nowhere"),
    [
        ("PRESSROOM_DB_URL", "postgresql://nobody:nothing@127.0.0.1:1/none"),
        ("PRESSROOM_S3_URL", "http://nobody:nothing@127.0.0.1:1/none"),
    ],
)
def test_a_worker_that_meets_no_server_ends_and_is_started_again(
    database: Engine, urls: ServiceUrls, tmp_path: Path, variable: str, nowhere: str
) -> None:
    with supervised(tmp_path, urls, environment={variable: nowhere}) as supervisor:
        deaths: list[str] = []

        def died() -> bool:
            deaths.extend(supervisor.check())
            return bool(deaths)

        wait_until(died, "the worker ended", seconds=START_SECONDS)
        assert "exit code 1" in deaths[0]
        check_until_restarted(supervisor, 0, supervisor.pids[0])


def test_workers_drain_and_end_when_their_supervisor_is_killed(
    database: Engine, urls: ServiceUrls, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        given = {"db_url": urls.db_url, "redis_url": urls.redis_url, "s3_url": urls.s3_url}
        parent.stdin.write(json.dumps(given) + "\n")
        parent.stdin.flush()
        (pid,) = json.loads(parent.stdout.readline())
        worker = psutil.Process(pid)
        wait_until(
            lambda: any(row.ready_at for row in worker_rows(database)), "it is ready", seconds=START_SECONDS
        )
        parent.kill()
    wait_until(
        lambda: all(row.stopped_at for row in worker_rows(database)), "it drained", seconds=START_SECONDS
    )
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker ended")


def test_a_worker_that_cannot_start_costs_no_other_its_drain(
    database: Engine, urls: ServiceUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneCannotStart(Supervisor):
        is_waiting = False

        def check(self) -> list[str]:
            if self.is_waiting:
                return super().check()
            self.is_waiting = True
            wait_until_ready(database, self)
            raise WorkerStartError("another worker cannot start")

    monkeypatch.setattr(serve, "Supervisor", OneCannotStart)
    monkeypatch.setenv("PYTHONPATH", str(PLUGINS))
    given = {"home": tmp_path, "db_url": urls.db_url, "redis_url": urls.redis_url, "s3_url": urls.s3_url}
    with pytest.raises(WorkerStartError):
        serve.run_workers(Settings.model_validate(given), [Device("cpu")], PROFILE)
    assert [row.stopped_at is not None for row in worker_rows(database)] == [True]
