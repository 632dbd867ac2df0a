"""Background services of kinds beside the commands that they belong to: a real beat, a real store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from kinds.recommendation.serving.follower import serve_in_background
from tests.conftest import PLUGINS
from tests.factories import wait_until
from tests.integration.kinds.sentiment.test_delivery import alert, monitor_of
from workers.background import UP, BackgroundPlace, BackgroundServices, services_under
from workers.beat import BeatThread
from workers.delivery import FileTarget
from workers.settings import Settings

ROOT = Path(__file__).parents[2]

NOBODY = "redis://127.0.0.1:1/0"
"""Beat sends nothing: it needs no broker."""


@pytest.fixture
def lines(database: Engine, tmp_path: Path) -> Path:
    """The file that an alert shall be delivered to."""
    path = tmp_path / "alerts.jsonl"
    monitor_id = monitor_of(database, FileTarget(name="lines", path=str(path)))
    alert(database, monitor_id, ["lines"])
    return path


def place_of(database_url: str, s3_url: str | None = None) -> BackgroundPlace:
    return BackgroundPlace(db_url=database_url, redis_url=NOBODY, s3_url=s3_url, settings=Settings())


def check_delivered_once(lines: Path) -> None:
    assert [json.loads(line)["type"] for line in lines.read_text().splitlines()] == ["alert.raised"]


def test_alerts_are_delivered_beside_the_beat_of_pressroom(database_url: str, lines: Path) -> None:
    beat = BeatThread(place_of(database_url))
    try:
        wait_until(lines.exists, "a delivery", seconds=60)
        beat.check()
    finally:
        beat.stop(10)
    check_delivered_once(lines)


def test_alerts_are_delivered_beside_the_beat_of_celery(database_url: str, lines: Path) -> None:
    command = (sys.executable, "-m", "celery", "-A", "workers.celery", "beat")
    process = subprocess.Popen(
        [*command, "-S", "workers.beat:PostgresScheduler"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PLUGINS),
            "PRESSROOM_DB_URL": database_url,
            "PRESSROOM_REDIS_URL": NOBODY,
        },
    )
    try:
        wait_until(lines.exists, "a delivery", seconds=60)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    check_delivered_once(lines)


def test_serving_runs_under_up_until_it_ends(
    database_url: str, s3_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    services = BackgroundServices(services_under(UP), place_of(database_url, s3_url))
    with closing(services):
        services.check()
        services.check()
    with serve_in_background(place_of(database_url, s3_url)) as thread:
        thread.check()
    assert not caplog.records
