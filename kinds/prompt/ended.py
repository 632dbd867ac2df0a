"""The jobs of a batch that have ended, in the order of the input."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TextIO
from uuid import UUID

from db.reports import JobResult
from jobs.shown import json_text
from kinds.prompt.payload import PromptPayload
from pressroom.export import write_failures
from pressroom.results import Result, ResultReader

Ended = Result[JobResult] | JobResult
"""A job that has ended: its checked result, or the job itself if it has none."""


def ended_jobs(reader: ResultReader, batch_id: UUID, folder: Path) -> Iterator[Ended]:
    """Yield the results and the failures of a batch in the order of the input; write failed.jsonl."""
    results: Iterator[tuple[UUID, Ended]] = (
        (result.job.job_id, result) for result in reader.read_batch(batch_id)
    )
    failures: Iterator[tuple[UUID, Ended]] = (
        (job.job_id, job) for job in write_failures(reader.database, batch_id, folder)
    )
    merged = heapq.merge(results, failures, key=lambda ended: ended[0])
    for _, same in groupby(merged, key=lambda ended: ended[0]):
        yield next(same)[1]  # the result of a job that was retried meanwhile comes before its failure


def ended_rows(reader: ResultReader, batch_id: UUID, folder: Path) -> Iterator[Ended]:
    """Yield as `ended_jobs` does, but without jobs about parts of rows, and without rows that were passed on.

    A row whose own job failed in the stage of the parts is yielded as well.
    """
    for ended in ended_jobs(reader, batch_id, folder):
        job = ended if isinstance(ended, JobResult) else ended.job
        place = PromptPayload.model_validate(job.payload).part if "part" in job.payload else None
        if place is None or (place.number == 0 and isinstance(ended, JobResult)):
            yield ended


def write_statement(result: Result[JobResult], statements: TextIO) -> None:
    """Write a line of provenance.jsonl."""
    job = result.job
    record = {"id": job.custom_id, "job_id": str(job.job_id), "provenance": json.loads(result.statement)}
    statements.write(json_text(record) + "\n")
