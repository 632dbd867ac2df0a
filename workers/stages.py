"""Closes finished stages, and lets the kind plan the jobs of the next stage from their outputs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.stages import ClosedStage, NewJob, close_finished_stages, note_plan_failure, stage_outputs
from jobs.errors import PressroomError
from jobs.outputs import OutputT
from jobs.registry import load_kind

logger = logging.getLogger(__name__)


def close_stages(database: Engine, batch_id: UUID) -> bool:
    """Close the stages that are finished; return True if that finished the batch. Raises SQLAlchemyError.

    A stage is not closed while its successor cannot be planned, for example because the kind's package is
    missing here. Planning is retried a few times; then the batch fails with the reason.
    """
    try:
        return close_finished_stages(database, batch_id, _plan)
    except SQLAlchemyError:
        raise
    except Exception as error:
        logger.exception("The next stage cannot be planned.", extra={"batch_id": str(batch_id)})
        return note_plan_failure(database, batch_id, _reason(error))


def _reason(error: Exception) -> str:
    """Return why the next stage cannot be planned, without quoting errors that may contain payload text."""
    cause = f"{error} ({error.code})" if isinstance(error, PressroomError) else type(error).__name__
    return f"the next stage cannot be planned: {cause}; see the worker's log"


class _PlanContext:
    """`jobs.kind.PlanContext` over the transaction that closes the stage."""

    def __init__(self, closed: ClosedStage) -> None:
        self._closed = closed

    def outputs(self, output_type: type[OutputT], stage: str | None = None) -> Iterator[tuple[str, OutputT]]:
        # Use a separate connection: the one that closes the stage is busy with COPY meanwhile.
        closed = self._closed
        return stage_outputs(closed.database, closed.batch_id, stage or closed.name, output_type)

    @property
    def settings(self) -> Mapping[str, object]:
        return self._closed.settings

    @property
    def num_failed(self) -> int:
        return self._closed.num_failed


def _plan(closed: ClosedStage) -> Iterable[NewJob]:
    kind = load_kind(closed.kind)
    for custom_id, payload in kind.plan(closed.next_name, _PlanContext(closed)):
        yield NewJob(custom_id, payload.model_dump(mode="json"), kind.prompt_prefix(payload))
