"""A child process that runs a worker or a sweep, and is killed at a chosen point.

python -m tests.crashing (worker|sweep) POINT DATABASE_URL STORE_URL [JOB ...]
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from botocore.awsrequest import AWSConnection
from sqlalchemy import Engine

from db.packs import move_parts
from db.session import open_database
from jobs.provenance import CodeFacts
from pressroom.sweep import Sweep
from storage import open_store
from storage.packs import PREFIX
from storage.store import Store
from tests.fakes import FakeEngine, fake_models
from workers.attempt import JobServices, WorkerIdentity
from workers.ports import open_ports
from workers.publisher import Publisher
from workers.runner import Runner
from workers.settings import Settings

PATCH = pytest.MonkeyPatch()

ROOT = Path(__file__).parents[1]

AT_ONCE = -timedelta(minutes=1)
"""Age that each pack has, by whatever clock."""

FIRST_BYTES = b"PK\x03\x04"
"""Of each archive."""


def die(*_: object, **__: object) -> None:
    """End this process as a power failure does."""
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(call: Callable[..., object]) -> Callable[..., None]:
    """The same call, after which the process is gone."""

    def wrapped(*arguments: Any, **options: Any) -> None:
        call(*arguments, **options)
        die()

    return wrapped


def die_after_pack(store: Store) -> None:
    """Die when a pack is stored, and nobody knows of it."""
    put = store.put

    def put_and_die(key: str, body: bytes, *, media_type: str) -> None:
        put(key, body, media_type=media_type)
        if key.startswith(PREFIX):
            die()

    PATCH.setattr(store, "put", put_and_die)


def die_in_upload(_store: Store) -> None:
    """Die when half of a pack is sent to a server, or before the file of a pack has its name."""
    send: Callable[..., Any] = AWSConnection.send
    fsync = os.fsync

    def send_half(self: AWSConnection, data: Any) -> Any:
        if isinstance(data, bytes) and data.startswith(FIRST_BYTES):
            send(self, data[: len(data) // 2])
            die()
        return send(self, data)

    def flush_no_file(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            die()
        fsync(descriptor)

    PATCH.setattr(AWSConnection, "send", send_half)
    PATCH.setattr(os, "fsync", flush_no_file)


def die_after_rows(_store: Store) -> None:
    """Die when the rows of a sweep are committed."""
    PATCH.setattr("pressroom.sweep.move_parts", then_die(move_parts))


POINTS: dict[str, Callable[[Store], None]] = {
    "after_pack": die_after_pack,
    "in_upload": die_in_upload,
    "after_rows": die_after_rows,
}


@contextmanager
def running(database: Engine, store: Store, name: str = "worker-a") -> Iterator[Runner]:
    """A worker's runner, closed afterwards."""
    settings = Settings(backoff_seconds=0.0, commit_interval_seconds=0.2)
    runner = Runner(
        database=database,
        services=JobServices(
            models=fake_models(FakeEngine()),
            ports=open_ports(database, store, settings),
            publisher=Publisher(store, CodeFacts("0", "test")),
            settings=settings,
            worker=WorkerIdentity(name, "cpu"),
        ),
        num_places=8,
        on_broken=lambda: None,
    )
    try:
        yield runner
    finally:
        runner.close(30.0)


def crash(role: str, point: str, database_url: str, store_url: str, jobs: Sequence[UUID] = ()) -> None:
    """Run the child process until it is killed."""
    command = [sys.executable, "-m", "tests.crashing", role, point, database_url, store_url, *map(str, jobs)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugins")])
    child = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


def main(role: str, point: str, database_url: str, store_url: str, *jobs: str) -> None:
    """Do what the child process is for."""
    database, store = open_database(database_url, pool_size=4), open_store(store_url)
    POINTS[point](store)
    if role == "sweep":
        Sweep(database, store, min_age=AT_ONCE, may_empty=True).run()
        return
    with running(database, store) as runner:
        runner.run_shard([UUID(job) for job in jobs], celery_task_id="task")


if __name__ == "__main__":
    main(*sys.argv[1:])
