"""Repairs what a crash between any two steps left behind; run by the active dispatcher."""

from __future__ import annotations

import logging

from sqlalchemy import Engine

from db import recovery
from workers.settings import Settings
from workers.stages import close_stages

logger = logging.getLogger(__name__)


def reconcile(database: Engine, settings: Settings) -> None:
    """One round: expired leases, passed deadlines, finished stages that nobody closed. Raises DBAPIError."""
    reaped = recovery.reap_expired_leases(database, max_crashes=settings.max_crashes)
    if reaped.num_requeued or reaped.num_quarantined:
        logger.warning(
            "Leases ran out.",
            extra={"num_requeued": reaped.num_requeued, "num_quarantined": reaped.num_quarantined},
        )
    expired = recovery.expire_overdue(database)
    if expired:
        logger.warning("Jobs expired with their batch's deadline.", extra={"num_expired": expired})
    for batch_id in recovery.running_batches(database):
        close_stages(database, batch_id)
