"""The tasks that messages call. The work itself does not depend on Celery: see runner.py."""

from __future__ import annotations

from uuid import UUID

from celery import Task

from jobs.errors import InputError
from workers import process
from workers.celery import RUN_ALONE, RUN_SHARD, app

MAX_SHARD_JOBS = 1000
"""Maximum ids per message; the dispatcher sends no message with more."""


@app.task(name=RUN_SHARD, bind=True)
def run_shard(self: Task[..., None], job_ids: list[str]) -> None:
    """Run those of the jobs that are still queued."""
    process.runner().run_shard(_parse(job_ids), celery_task_id=self.request.id or "")


@app.task(name=RUN_ALONE, bind=True)
def run_alone(self: Task[..., None], job_ids: list[str]) -> None:
    """Run these jobs, which were in flight when a worker was lost, while no other job is running."""
    process.runner().run_alone(_parse(job_ids), celery_task_id=self.request.id or "")


def _parse(job_ids: object) -> list[UUID]:
    if not isinstance(job_ids, list) or len(job_ids) > MAX_SHARD_JOBS:
        raise InputError(
            f"the message was dropped: it must contain a list of at most {MAX_SHARD_JOBS} job ids"
        )
    try:
        return [UUID(job_id) for job_id in job_ids]
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError("the message was dropped: it contains something that is not a job id") from error
