"""A job: the unit of retry. Its states, and which may follow which."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID, uuid5


class JobStatus(StrEnum):
    """Where a job is in its life. What was rejected at intake never became a job."""

    QUEUED = "queued"
    """Accepted; waits for a worker, or for its retry time."""
    RUNNING = "running"
    """Claimed by a worker under a lease."""
    SUCCEEDED = "succeeded"
    """Its artifact is stored and its result committed."""
    FAILED = "failed"
    """A permanent error, or its attempts are used up."""
    CANCELLED = "cancelled"
    """Its batch was cancelled before it finished."""
    EXPIRED = "expired"
    """Its batch's deadline passed before it finished."""

    @property
    def is_final(self) -> bool:
        """True when no further transition is legal but a user's explicit retry."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class AttemptOutcome(StrEnum):
    """How one claim of a job ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """An error of the job's own; `num_failures` counts these."""
    RELEASED = "released"
    """Given back unfinished: the worker was stopping, or its engine or the store was away."""
    LOST = "lost"
    """The lease ran out: the worker died, hung, or could not reach Postgres."""
    ENDED = "ended"
    """The job was cancelled or expired under it."""


LEGAL_TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.EXPIRED}),
        JobStatus.RUNNING: frozenset(
            {
                JobStatus.QUEUED,  # released, retried, or its lease was lost
                JobStatus.SUCCEEDED,
                JobStatus.FAILED,
                JobStatus.CANCELLED,
                JobStatus.EXPIRED,
            }
        ),
        JobStatus.SUCCEEDED: frozenset(),
        JobStatus.FAILED: frozenset({JobStatus.QUEUED}),  # a user's retry
        JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
        JobStatus.EXPIRED: frozenset({JobStatus.QUEUED}),
    }
)


def job_id(batch_id: UUID, stage: int, position: int) -> UUID:
    """The id of the job at a position of a batch's stage: derived, so that planning twice makes no twin.

    >>> job_id(UUID(int=1), 0, 7) == job_id(UUID(int=1), 0, 7) != job_id(UUID(int=1), 1, 7)
    True
    """
    return uuid5(batch_id, f"{stage}/{position}")


def job_seed(batch_seed: int, custom_id: str) -> int:
    """The seed of a line's sampling: 48 bits, so that JSON keeps it exact.

    >>> job_seed(0, "a") == job_seed(0, "a") != job_seed(1, "a")
    True
    """
    digest = hashlib.sha256(f"{batch_seed}/{custom_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job as a worker holds it: enough to run it and to prove, by the fence, that it still may."""

    id: UUID
    batch_id: UUID
    kind: str
    stage: str
    custom_id: str
    """The producer's own name for the line; unique in the batch."""
    payload: dict[str, object]
    """The validated payload; the kind's payload type reads it."""
    settings: dict[str, object]
    """What the batch fixes for all its jobs: sampling, template; the kind's settings type reads it."""
    model: str
    """Name of the installed model that the batch asked for."""
    seed: int
    """The job's own, from the batch's seed and the line's custom_id: the same at every attempt."""
    queued_at: datetime
    attempt: int
    """Counts claims from 1. It is the fence: a result is committed only under the attempt that made it."""
    num_failures: int
    """Attempts that ended in an error of the job's own; leases lost with a worker are not charged here."""
    max_attempts: int
    seconds_to_deadline: float | None
