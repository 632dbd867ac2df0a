"""The outcome of a run, for people and for scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from uuid import UUID

from jobs.batch import BatchStatusReport


@dataclass(frozen=True, slots=True)
class Altered:
    """A result that is left out because its evidence does not match."""

    job_id: UUID
    custom_id: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"job {self.job_id} ({self.custom_id!r}): {self.reason}"

    def as_json(self) -> dict[str, str]:
        """Return the result as JSON for scripts."""
        return {"job_id": str(self.job_id), "id": self.custom_id, "code": self.code, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The facts about a batch that `--json` prints."""

    report: BatchStatusReport
    elapsed_seconds: float
    """Duration of the whole command."""
    startup_seconds: float
    """Time until the first job was claimed: start of services, model loading and warm-up."""
    altered: list[Altered] = field(default_factory=list)
    """Results that are left out; the list is filled while the results are written."""

    def leave_out(self, altered: Altered) -> None:
        """Record a result that is left out; recording it again has no effect."""
        if altered not in self.altered:
            self.altered.append(altered)

    @property
    def batch_id(self) -> UUID:
        return self.report.batch_id

    @property
    def tokens_per_second(self) -> float:
        """Return the new tokens of succeeded jobs per second from the first claim to the last commit."""
        seconds = self.report.working_seconds
        return self.report.usage.new_tokens / seconds if seconds else 0.0

    def as_json(self) -> dict[str, object]:
        """Return the summary as JSON; the README documents the names, which are stable."""
        report = self.report
        return {
            "batch_id": str(report.batch_id),
            "kind": report.kind,
            "model": report.model,
            "status": report.status.value,
            "counts": report.counts.as_json(),
            "usage": asdict(report.usage),
            "elapsed_seconds": round(self.elapsed_seconds, 2),
            "startup_seconds": round(self.startup_seconds, 2),
            "working_seconds": round(report.working_seconds, 2),
            "tokens_per_second": round(self.tokens_per_second, 2),
            "parked": [job.as_json() for job in report.parked],
            "altered": [altered.as_json() for altered in self.altered],
            "top_errors": [{"code": code, "jobs": jobs} for code, jobs in report.top_errors],
            "reason": report.waiting_reason,
        }
