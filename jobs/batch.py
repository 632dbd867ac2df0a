"""A batch: jobs that a producer submits together and that run stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from jobs.inference import Usage
from jobs.losses import Evidence


class BatchStatus(StrEnum):
    """State of a batch."""

    RUNNING = "running"
    """The batch was accepted, and some of its jobs are not final yet."""
    FINISHED = "finished"
    """Every job of the last stage is final, whether it succeeded or not."""
    CANCELLED = "cancelled"
    """A user cancelled the batch. Results that existed before are kept."""
    FAILED = "failed"
    """A stage could not be planned in any of the attempts. Results that existed before are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """Numbers of a batch's jobs by state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    rejected: int = 0
    """Number of lines that were refused at intake. They are not jobs and do not count towards the total."""

    @property
    def total(self) -> int:
        """Number of accepted jobs, the sum over all states."""
        return self.queued + self.running + self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def open(self) -> int:
        """Number of jobs that are not final."""
        return self.queued + self.running

    @property
    def complete(self) -> bool:
        """Whether every line became a job that succeeded; False if there are no jobs."""
        return self.total > 0 and self.succeeded == self.total and self.rejected == 0

    def as_json(self) -> dict[str, int]:
        """Return the counts and their total as JSON, for scripts."""
        return {"total": self.total, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedJob:
    """A job that is no longer sent, because its workers were lost too often for unknown reasons."""

    job_id: UUID
    custom_id: str
    parked_at: datetime
    losses: tuple[Evidence, ...]
    """Losses since the job was last cleared, oldest first."""

    def as_json(self) -> dict[str, object]:
        """Return the parked job as JSON, for scripts."""
        return {
            "job_id": str(self.job_id),
            "id": self.custom_id,
            "parked_at": self.parked_at.isoformat(),
            "losses": [loss.model_dump(mode="json", exclude_none=True) for loss in self.losses],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatusReport:
    """The state of a batch in Postgres at one instant."""

    batch_id: UUID
    name: str
    kind: str
    model: str
    profile: str
    """Profile of the open stage. The queue to which the stage's jobs are sent has the same name."""
    status: BatchStatus
    counts: JobCounts
    usage: Usage
    """Token counts summed over succeeded jobs."""
    created_at: datetime
    first_claim_at: datetime | None
    last_commit_at: datetime | None
    top_errors: tuple[tuple[str, int], ...]
    """The most frequent error codes of failed jobs, with their counts."""
    waiting_reason: str | None
    """Why no job is running although jobs are queued; None if jobs are running or no job is queued."""
    num_parked: int = 0
    """Number of parked jobs, which stay queued but are not sent until a user retries them."""
    parked: tuple[ParkedJob, ...] = ()
    """The first of the parked jobs, with their evidence."""

    @property
    def goes_on(self) -> bool:
        """Whether the batch is running. False if all its open jobs are parked, because none will be sent."""
        is_stuck = 0 < self.num_parked == self.counts.open
        return self.status is BatchStatus.RUNNING and not is_stuck

    @property
    def working_seconds(self) -> float:
        """Time in seconds from the first claim to the last commit; 0 before the first commit."""
        if self.first_claim_at is None or self.last_commit_at is None:
            return 0.0
        return max(0.0, (self.last_commit_at - self.first_claim_at).total_seconds())


@dataclass(frozen=True, slots=True)
class NewStage:
    """A stage of a new batch, with the queue for its jobs."""

    name: str
    profile: str
    """Profile of the workers that have loaded the stage's models. Their queue has the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch to be created, with everything that applies to all its jobs."""

    kind: str
    kind_version: str
    name: str
    """Name for display, usually that of the input file."""
    model: str
    settings: dict[str, object]
    seed: int = 0
    stages: tuple[NewStage, ...]
    """Stages in the order in which they run; at least one."""
    tenant: str = "default"
    """Tenant that owns the batch. Tenants share the workers evenly, whatever the sizes of their batches."""
    priority: int = 0
    """Priority from -100 to 100. Batches with a higher priority are dispatched first."""
    schedule_id: UUID | None = None
    """Id of the schedule that this batch is a run of, whether the run was started automatically or by hand. A
    schedule has at most one unfinished run."""
    idempotency_key: str | None = None
    """Key that makes submission idempotent: a second submission by the same tenant with the same key returns
    the first batch and creates none."""
    deadline_seconds: float | None = None
    """Time in seconds from acceptance after which unfinished jobs expire."""
    max_attempts: int = 3

    @property
    def profiles(self) -> tuple[str, ...]:
        """Profiles of the stages, in their order and without duplicates. Each needs a worker."""
        return tuple(dict.fromkeys(stage.profile for stage in self.stages))
