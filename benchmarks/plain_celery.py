"""Plain Celery for comparison: a task that puts an object and commits a row, and a task that does nothing.

The app is written as an introduction to Celery would write it: threads, late acknowledgement, the defaults of
boto3. It uses the services in PRESSROOM_DB_URL and PRESSROOM_S3_URL and the broker in PLAIN_BROKER_URL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from celery import Celery, Task
from celery.signals import worker_init
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from storage.s3_settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BROKER_VARIABLE = "PLAIN_BROKER_URL"
"""Environment variable with the URL of the broker."""

QUEUE = "plain"

UNACKNOWLEDGED = "unacked"
"""Hash in which kombu keeps the messages that were delivered and not acknowledged."""

PlainTask = Task[[int], None]
"""Task that takes the number of its row."""

POLL_SECONDS = 0.01

MAX_WAIT_SECONDS = 3600.0

CREATE_TABLE = "CREATE TABLE IF NOT EXISTS plain_rows (number integer PRIMARY KEY, object_key text NOT NULL)"
INSERT = "INSERT INTO plain_rows (number, object_key) VALUES (:number, :object_key)"
COUNT = "SELECT count(*) FROM plain_rows"

app = Celery("plain", set_as_current=False)
app.add_defaults(
    lambda: {
        "broker_url": os.environ[BROKER_VARIABLE],
        "broker_connection_retry_on_startup": True,
        "task_default_queue": QUEUE,
        "task_ignore_result": True,
        "task_acks_late": True,
    }
)


@dataclass(frozen=True, slots=True)
class _Services:
    database: Engine
    s3: S3Client
    bucket: str


@cache
def _services() -> _Services:
    """Connect once in a process; all threads share the pools."""
    store = S3Settings.from_url(os.environ["PRESSROOM_S3_URL"])
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=store.region,
        config=Config(s3={"addressing_style": store.addressing_style}, max_pool_connections=64),
    )
    return _Services(open_pool(os.environ["PRESSROOM_DB_URL"]), client, store.bucket)


def open_pool(db_url: str) -> Engine:
    """Return a pool of connections, as large as any number of threads needs."""
    return create_engine(make_url(db_url).set(drivername="postgresql+psycopg"), pool_size=64)


@worker_init.connect
def _connect(**_: object) -> None:
    """Connect before the first thread needs it."""
    _services()


@app.task(name="plain.write")
def write(number: int) -> None:
    """Put a small object, then commit a row that names it."""
    services = _services()
    key = f"plain/{number}.txt"
    services.s3.put_object(
        Bucket=services.bucket, Key=key, Body=f"Line {number}\n".encode(), ContentType="text/plain"
    )
    with services.database.begin() as connection:
        connection.execute(text(INSERT), {"number": number, "object_key": key})


@app.task(name="plain.nothing")
def nothing(number: int) -> None:
    """Do nothing."""


def measure_tasks(task: PlainTask, num_tasks: int, *, num_threads: int, log: Path) -> float:
    """Send the tasks, start a worker, and return the seconds from first delivery to last acknowledgement.

    All tasks are sent before the worker starts, because sending takes as much processor time as running.
    """
    with app.producer_or_acquire() as producer:
        for number in range(num_tasks):
            task.apply_async((number,), producer=producer)
    with Redis.from_url(os.environ[BROKER_VARIABLE]) as broker, _worker(num_threads, log) as worker:
        _wait_until(worker, log, lambda: num_waiting(broker) < num_tasks)
        begun_at = time.perf_counter()
        _wait_until(worker, log, lambda: not num_waiting(broker) and not broker.hlen(UNACKNOWLEDGED))
        return time.perf_counter() - begun_at


def num_waiting(broker: Redis) -> int:
    """Return the number of messages that no worker has received."""
    return int(broker.llen(QUEUE))


@contextmanager
def _worker(num_threads: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(sys.executable, "-m", "celery", "-A", "benchmarks.plain_celery", "worker"),
        *("--pool=threads", f"--concurrency={num_threads}", "--loglevel=WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    with log.open("ab") as file:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait()


def _wait_until(worker: subprocess.Popen[bytes], log: Path, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while not condition():
        if worker.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the plain worker has ended or hangs; its log:\n{log.read_text()}")
        time.sleep(POLL_SECONDS)
