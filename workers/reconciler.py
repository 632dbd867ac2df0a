"""Repairs what a crash between any two steps left behind. The active dispatcher runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import recovery
from db.faults import fault_of
from workers.settings import Settings
from workers.stages import close_stages

logger = logging.getLogger(__name__)


def reconcile(database: Engine, settings: Settings) -> None:
    """Run one round of repairs: expired leases, passed deadlines, unfinished cancellations, unclosed stages.

    A step that fails is logged and tried again in the next round, while the other steps and dispatching
    continue. Raises SQLAlchemyError when Postgres is unavailable.
    """
    with _guarded("reap"):
        _reap(database, settings)
    with _guarded("expire"):
        expired = recovery.expire_overdue(database)
        if expired:
            logger.warning(
                "Jobs expired because the deadline of their batch passed.", extra={"num_expired": expired}
            )
    with _guarded("finish_cancelling"):
        recovery.finish_cancelling(database)
    for batch_id in recovery.running_batches(database):
        with _guarded("close"):
            close_stages(database, batch_id)


@contextmanager
def _guarded(step: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, SQLAlchemyError) and fault_of(error).is_outage:
            raise
        logger.exception("A repair step failed.", extra={"step": step})


def _reap(database: Engine, settings: Settings) -> None:
    reaped = recovery.reap_expired_leases(
        database, max_crashes=settings.max_crashes, max_losses=settings.max_losses
    )
    numbers = asdict(reaped)
    if any(numbers.values()):
        logger.warning("Leases expired.", extra=numbers)
