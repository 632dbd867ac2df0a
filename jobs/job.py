"""A job, the unit of retry: its states, and the transitions between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import count
from types import MappingProxyType
from uuid import UUID


class JobStatus(StrEnum):
    """State of a job. Lines that are rejected at intake never become jobs."""

    QUEUED = "queued"
    """The job was accepted and is waiting for a worker, or for the end of its retry delay."""
    RUNNING = "running"
    """A worker has claimed the job under a lease."""
    SUCCEEDED = "succeeded"
    """The artifacts of the job are stored and its result is committed."""
    FAILED = "failed"
    """The job raised a permanent error, or its attempts are used up."""
    CANCELLED = "cancelled"
    """The batch was cancelled before the job finished."""
    EXPIRED = "expired"
    """The batch's deadline passed before the job finished."""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended. From then on, only an explicit retry by a user may change its state."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class AttemptOutcome(StrEnum):
    """Outcome of one claim of a job."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The job raised an error; `num_failures` counts these attempts."""
    GIVEN_BACK = "given_back"
    """The job was given back unfinished, because the worker was stopping, or its engine or the store was
    unavailable."""
    LOST = "lost"
    """The lease expired, because the worker died, hung, or could not reach Postgres."""
    ENDED = "ended"
    """The job was cancelled or expired during the attempt."""


LEGAL_TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.EXPIRED}),
        JobStatus.RUNNING: frozenset(
            {
                JobStatus.QUEUED,  # given back, retried, or its lease was lost
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
    """Return the id of the job at a position in a stage.

    The id is derived from the arguments, so planning a stage twice creates no duplicates. The ids of a stage
    are consecutive, so that its rows lie together in indexes: with random ids, nearly every row that is
    written changes a different page.

    >>> job_id(UUID(int=1), 0, 7) == job_id(UUID(int=1), 0, 7) != job_id(UUID(int=1), 1, 7)
    True
    >>> job_id(UUID(int=1), 0, 7)
    UUID('26d3f31f-b63b-8168-9a5f-e1a600000007')
    """
    return UUID(int=_first_id(batch_id, stage) + position)


def job_ids(batch_id: UUID, stage: int) -> Iterator[str]:
    """Yield the ids of the jobs of a stage by position, as hexadecimal digits.

    >>> next(job_ids(UUID(int=1), 0)) == job_id(UUID(int=1), 0, 0).hex
    True
    """
    for number in count(_first_id(batch_id, stage)):
        yield f"{number:032x}"


def _first_id(batch_id: UUID, stage: int) -> int:
    """Return the id of a stage's first job, a UUID of version 8 (RFC 9562, section 5.8).

    Its last 32 bits are zero, as positions are added to them. The others come from a hash.
    """
    digest = hashlib.sha256(batch_id.bytes + str(stage).encode()).digest()
    return int.from_bytes(digest[:16]) & _HASH_BITS | _VERSION_8


_VERSION_8 = 0x8000_8000_0000_0000_0000
"""Version and variant of a UUID of version 8."""
_HASH_BITS = ~0xF000_C000_0000_FFFF_FFFF


def job_seed(batch_seed: int, custom_id: str) -> int:
    """Return the sampling seed of a line: 48 bits, so that JSON represents it exactly.

    >>> job_seed(0, "a") == job_seed(0, "a") != job_seed(1, "a")
    True
    """
    digest = hashlib.sha256(f"{batch_seed}/{custom_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job that a worker has claimed, with everything needed to run it."""

    id: UUID
    batch_id: UUID
    kind: str
    stage: str
    custom_id: str
    """Id of the line, chosen by the producer; unique in the batch."""
    payload: dict[str, object]
    """Validated payload, which the kind's payload type parses."""
    settings: dict[str, object]
    """Settings of the batch, such as sampling and template, which the kind's settings type parses."""
    model: str
    """Name of the installed model that the batch uses."""
    seed: int
    """Sampling seed, derived from the batch's seed and the line's custom_id. It is the same in every
    attempt."""
    queued_at: datetime
    attempt: int
    """Number of the claim, from 1. It is the fence: a result is committed only if the job is still running
    under the attempt that produced it."""
    num_failures: int
    """Number of attempts in which the job raised an error. Leases lost with a worker do not count."""
    max_attempts: int
    seconds_to_deadline: float | None
