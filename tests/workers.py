"""Real worker processes for tests: Celery under the supervisor, on a profile that needs no model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.tables import WorkerRow
from pressroom.embedded.services import ServiceUrls
from tests.conftest import PLUGINS
from tests.factories import wait_until
from workers.devices import Device
from workers.settings import Settings
from workers.supervisor import Supervisor

PROFILE = "cpu"
START_SECONDS = 180.0
"""A deadline for a hang: a worker starts in about three seconds, or in thirty on a busy machine."""

LOG_TAIL_CHARS = 4_000


@contextmanager
def supervised(
    home: Path,
    urls: ServiceUrls,
    *,
    devices: Sequence[str] = ("cpu",),
    profile: str = PROFILE,
    environment: dict[str, str] | None = None,
    lease_seconds: float = 30.0,
) -> Iterator[Supervisor]:
    """Workers on these devices, drained afterwards."""
    supervisor = Supervisor(
        Settings(home=home, drain_seconds=10.0, lease_seconds=lease_seconds),
        [Device(name) for name in devices],
        profile=profile,
        environment={
            **urls.environment(),
            "PYTHONPATH": os.pathsep.join([str(PLUGINS), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PRESSROOM_LEASE_SECONDS": str(lease_seconds),
            **(environment or {}),
        },
    )
    try:
        yield supervisor
    finally:
        supervisor.stop()


def wait_until_ready(database: Engine, supervisor: Supervisor) -> None:
    """Wait until every worker of the supervisor consumes messages; a failure shows the ends of their logs.

    As in every owner's loop, the supervisor is asked to restart a worker that dies meanwhile.
    """
    deaths: list[str] = []

    def are_ready() -> bool:
        deaths.extend(supervisor.check())
        return set(supervisor.worker_ids) <= {row.id for row in worker_rows(database) if row.ready_at}

    try:
        wait_until(are_ready, "every worker is ready", seconds=START_SECONDS)
    except AssertionError as error:
        logs = (f"{path}:\n{path.read_text()[-LOG_TAIL_CHARS:]}" for path in supervisor.log_paths)
        raise AssertionError("\n".join([str(error), *deaths, *logs])) from None


def worker_rows(database: Engine) -> list[WorkerRow]:
    """Every worker that has ever registered."""
    with Session(database) as session:
        return list(session.scalars(select(WorkerRow)))
