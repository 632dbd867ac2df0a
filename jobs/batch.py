"""A batch: what a producer submits at once, worked off stage by stage, and counted by state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from jobs.inference import Usage
from jobs.losses import Evidence


class BatchStatus(StrEnum):
    """Where a batch is in its life."""

    RUNNING = "running"
    """Accepted; some of its jobs are not final yet."""
    FINISHED = "finished"
    """The last job of its last stage is final, whatever its outcome."""
    CANCELLED = "cancelled"
    """A user ended it; what was finished before stays."""
    FAILED = "failed"
    """A stage could not be planned, however often it was tried; what was finished before stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """Jobs of a batch by state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    rejected: int = 0
    """Lines that were refused at intake: they are no jobs and not part of the total."""

    @property
    def total(self) -> int:
        """Accepted jobs: the sum of their states."""
        return self.queued + self.running + self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def open(self) -> int:
        """Jobs that are not final."""
        return self.queued + self.running

    @property
    def complete(self) -> bool:
        """True if every line became a succeeded job."""
        return self.total > 0 and self.succeeded == self.total and self.rejected == 0

    def as_json(self) -> dict[str, int]:
        """The counts with their total, for people's scripts."""
        return {"total": self.total, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedJob:
    """A job that is not sent any more, since its worker was lost too often and nobody knows why."""

    job_id: UUID
    custom_id: str
    parked_at: datetime
    losses: tuple[Evidence, ...]
    """Since it was cleared last, oldest first."""

    def as_json(self) -> dict[str, object]:
        """For people's scripts."""
        return {
            "job_id": str(self.job_id),
            "id": self.custom_id,
            "parked_at": self.parked_at.isoformat(),
            "losses": [loss.model_dump(mode="json", exclude_none=True) for loss in self.losses],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatusReport:
    """What Postgres says about a batch at one instant."""

    batch_id: UUID
    name: str
    kind: str
    model: str
    profile: str
    """The queue, and which workers take from it."""
    status: BatchStatus
    counts: JobCounts
    usage: Usage
    """Summed over succeeded jobs."""
    created_at: datetime
    first_claim_at: datetime | None
    last_commit_at: datetime | None
    top_errors: tuple[tuple[str, int], ...]
    """The most frequent error codes of failed jobs, with their counts."""
    waiting_reason: str | None
    """Why nothing runs although jobs are queued, if so."""
    num_parked: int = 0
    """Queued jobs that are not sent until a user releases them."""
    parked: tuple[ParkedJob, ...] = ()
    """The first of them."""

    @property
    def goes_on(self) -> bool:
        """Whether something is left to do that waits for no user: parked jobs wait for one."""
        is_stuck = 0 < self.num_parked == self.counts.open
        return self.status is BatchStatus.RUNNING and not is_stuck

    @property
    def working_seconds(self) -> float:
        """From the first claim to the last commit; 0 before there is one."""
        if self.first_claim_at is None or self.last_commit_at is None:
            return 0.0
        return max(0.0, (self.last_commit_at - self.first_claim_at).total_seconds())


@dataclass(frozen=True, slots=True)
class NewStage:
    """A step of a batch, and where it is worked off."""

    name: str
    profile: str
    """The queue: a worker of this profile has the models warm that the stage's jobs ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What a producer fixes for all jobs of a batch."""

    kind: str
    kind_version: str
    name: str
    """For people: usually the input file's name."""
    model: str
    settings: dict[str, object]
    seed: int = 0
    stages: tuple[NewStage, ...]
    """At least one, in their order."""
    tenant: str = "default"
    """Batches of different tenants share the workers evenly, whatever their sizes."""
    priority: int = 0
    """Higher goes first; -100 to 100."""
    schedule_id: UUID | None = None
    """The schedule that it is a run of, on time or by hand: one of them is under way at a time."""
    idempotency_key: str | None = None
    """The same key of the same tenant returns the first batch instead of a second one."""
    deadline_seconds: float | None = None
    """From acceptance; jobs not finished by then expire."""
    max_attempts: int = 3

    @property
    def profiles(self) -> tuple[str, ...]:
        """Those that the batch needs workers of, each once, in the order of its stages."""
        return tuple(dict.fromkeys(stage.profile for stage in self.stages))
