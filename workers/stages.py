"""Closes stages: the kind plans the jobs of the next one from what the closed one left."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from db.batches import ClosedStage, NewJob, close_finished_stages, stage_results
from jobs.kinds import load_kind

logger = logging.getLogger(__name__)


def close_stages(database: Engine, batch_id: UUID) -> bool:
    """Close what is finished; True if that finished the batch. Raises DBAPIError.

    A stage that its kind cannot plan stays as it was, and is tried again with the next round of repair: the
    kind's package may be missing here, or be corrected.
    """
    try:
        return close_finished_stages(database, batch_id, _plan)
    except DBAPIError:
        raise
    except Exception:
        logger.exception("The next stage cannot be planned.", extra={"batch_id": str(batch_id)})
        return False


class _PlanContext:
    """`jobs.kind.PlanContext` over the transaction that closes the stage."""

    def __init__(self, closed: ClosedStage) -> None:
        self._closed = closed

    def results(self) -> Iterator[tuple[str, Mapping[str, object]]]:
        return stage_results(self._closed)


def _plan(closed: ClosedStage) -> Iterable[NewJob]:
    kind = load_kind(closed.kind)
    for custom_id, payload in kind.plan(closed.next_name, _PlanContext(closed)):
        yield NewJob(custom_id, payload.model_dump(mode="json"), kind.prompt_prefix(payload))
