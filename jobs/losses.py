"""The evidence of lost attempts, and the verdict on a job that follows from it.

When a worker ends, all jobs that it was running are lost. At most one of them is to blame, and often none:
the machine is switched off, the supervisor kills a worker that does not drain, or a neighbour uses up the
memory.
Decision 2 in docs/decisions explains the rules.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import StrEnum, auto
from uuid import UUID

from pydantic import BaseModel, ConfigDict

FAULT_SIGNALS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that a process raises by its own instructions."""

MIN_CRASHES = 2
"""Crashes after which a job that ran alone fails. A single one may be a fault of the machine."""

SUSPICIOUS_LOSSES = 2
"""Unexplained losses in a row after which a job runs apart from others. A single one is usually a reboot."""

MAX_NEIGHBOURS = 50
"""Maximum number of neighbours' ids in the evidence; their number is always exact."""


class Cause(StrEnum):
    """Why an attempt was lost."""

    EXIT_CODE = "exit_code"
    """The process exited on its own, without being told to stop."""
    FAULT_SIGNAL = "fault_signal"
    """The process was ended by one of FAULT_SIGNALS."""
    MEMORY = "memory"
    """The kernel killed the process because memory ran out, according to its count of such kills."""
    HEARTBEAT_LOST = "heartbeat_lost"
    """The process was alive but hung; its supervisor logged its stacks and ended it."""
    KILLED = "killed"
    """The process received SIGKILL or another signal from outside."""
    NO_WORD = "no_word"
    """Nothing was reported: the process, its supervisor or its host is gone, cut off or stopped."""
    LEASE_LOST = "lease_lost"
    """The lease expired while the process lived: it was paused, starved or cut off from Postgres."""
    STOPPED = "stopped"
    """The process was draining or was stopped on purpose."""

    @property
    def may_be_the_jobs(self) -> bool:
        """Whether the job may have caused this, and nothing else is known to have."""
        return self in (Cause.EXIT_CODE, Cause.FAULT_SIGNAL, Cause.MEMORY, Cause.HEARTBEAT_LOST)

    @property
    def is_unexplained(self) -> bool:
        """Whether the cause is unknown."""
        return self in (Cause.KILLED, Cause.NO_WORD, Cause.LEASE_LOST)


_IN_WORDS = {
    Cause.MEMORY: "killed by the kernel because memory ran out",
    Cause.HEARTBEAT_LOST: "ended by its supervisor because it hung",
    Cause.NO_WORD: "the worker reported nothing: it, its supervisor or its host ended or was cut off",
    Cause.LEASE_LOST: "the lease expired while the worker was alive",
    Cause.STOPPED: "the worker was stopped",
}


class Ending(BaseModel):
    """The end of a worker process, as its supervisor observed it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cause: Cause
    exit_code: int | None = None
    signal: str | None = None
    """Name of the signal, such as "SIGSEGV"."""

    def __str__(self) -> str:
        """Describe the ending for people.

        >>> str(Ending(cause=Cause.EXIT_CODE, exit_code=3))
        'exit code 3'
        >>> str(Ending(cause=Cause.MEMORY, signal="SIGKILL"))
        'signal SIGKILL, killed by the kernel because memory ran out'
        """
        parts = []
        if self.signal is not None:
            parts.append(f"signal {self.signal}")
        if self.exit_code is not None:
            parts.append(f"exit code {self.exit_code}")
        if self.cause in _IN_WORDS:
            parts.append(_IN_WORDS[self.cause])
        return ", ".join(parts)


class Evidence(Ending):
    """The known facts about a lost attempt."""

    alone: bool = False
    """Whether the worker ran only this job, by arrangement, from its claim to its loss."""
    num_in_flight: int = 1
    """Number of jobs that were lost with the worker, including this one."""
    in_flight: tuple[UUID, ...] = ()
    """Ids of the others, at most MAX_NEIGHBOURS."""

    def __str__(self) -> str:
        if self.alone:
            return f"{super().__str__()}; ran alone"
        return f"{super().__str__()}; {self.num_in_flight} in flight"

    @property
    def convicts(self) -> bool:
        """Whether only the job can have been the cause."""
        return self.alone and self.cause.may_be_the_jobs


class Verdict(StrEnum):
    """The consequence of a loss for its job."""

    REQUEUE = auto()
    """It is queued again."""
    SUSPECT = auto()
    """It is queued again, and runs apart from jobs that are not suspected."""
    PARK = auto()
    """It stays queued, but is not sent until a user retries it."""
    FAIL = auto()
    """It fails, because it ends its worker."""


def judge(losses: Sequence[Evidence], *, max_crashes: int, max_losses: int) -> Verdict:
    """Return the verdict on a job by its losses since it was last cleared, oldest first; at least one.

    A job is parked only after a loss while it ran alone, so that the neighbours of a job that loses its
    worker every time are never parked with it: suspects are halved at each loss.

    >>> crash = Evidence(cause=Cause.FAULT_SIGNAL, signal="SIGSEGV", alone=True)
    >>> [judge([crash] * number, max_crashes=2, max_losses=10).value for number in (1, 2)]
    ['suspect', 'fail']
    """
    latest = losses[-1]
    num_unexplained = sum(loss.cause.is_unexplained for loss in losses)
    if sum(loss.convicts for loss in losses) >= max_crashes:
        return Verdict.FAIL
    if num_unexplained >= max_losses and latest.alone and latest.cause.is_unexplained:
        return Verdict.PARK
    is_suspicious = num_unexplained >= SUSPICIOUS_LOSSES or any(loss.cause.may_be_the_jobs for loss in losses)
    return Verdict.SUSPECT if is_suspicious and latest.cause is not Cause.STOPPED else Verdict.REQUEUE
