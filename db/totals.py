"""A batch's running totals, updated in the transaction in which jobs become final.

Counting a million jobs takes a fifth of a second, and progress is queried four times a second. Totals exist
only for final statuses: running jobs are few, so they are counted when needed, and the rest are queued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import Connection, func, update

from db.tables import BatchRow
from jobs.inference import Usage
from jobs.job import JobStatus

FINAL_COLUMNS = {
    JobStatus.SUCCEEDED: BatchRow.num_succeeded,
    JobStatus.FAILED: BatchRow.num_failed,
    JobStatus.CANCELLED: BatchRow.num_cancelled,
    JobStatus.EXPIRED: BatchRow.num_expired,
}


def add_final(connection: Connection, changes: Mapping[tuple[UUID, JobStatus], int]) -> None:
    """Add numbers of jobs to the totals of their batches; a negative number means jobs that were requeued.

    Call it last in a transaction. Every transaction locks jobs before batches, and batches in a fixed order,
    so that no two transactions deadlock.
    """
    for (batch_id, status), number in sorted(changes.items()):
        column = FINAL_COLUMNS[status]
        connection.execute(update(BatchRow).where(BatchRow.id == batch_id).values({column: column + number}))


def add_results(
    connection: Connection, changes: Mapping[UUID, tuple[Mapping[JobStatus, int], Usage]]
) -> None:
    """Add the numbers of outcomes that a worker commits, and their token counts, to the totals.

    Call it last in a transaction, as for `add_final`.
    """
    for batch_id, (numbers, usage) in sorted(changes.items()):
        connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch_id)
            .values(
                {FINAL_COLUMNS[status]: FINAL_COLUMNS[status] + number for status, number in numbers.items()}
                | {
                    BatchRow.prompt_tokens: BatchRow.prompt_tokens + usage.prompt_tokens,
                    BatchRow.cached_tokens: BatchRow.cached_tokens + usage.cached_tokens,
                    BatchRow.new_tokens: BatchRow.new_tokens + usage.new_tokens,
                    BatchRow.last_commit_at: func.clock_timestamp(),
                }
            )
        )


def note_first_claim(connection: Connection, batch_ids: Iterable[UUID]) -> None:
    """Record the current time as the first claim of each of these batches that has none yet.

    Call it last in a transaction, as for `add_final`.
    """
    for batch_id in sorted(batch_ids):
        connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch_id, BatchRow.first_claim_at.is_(None))
            .values(first_claim_at=func.clock_timestamp())
        )
