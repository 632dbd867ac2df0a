"""The evidence of lost attempts, and the verdict on a job that follows from it.

When a worker ends, all jobs that it was running are lost. At most one of them is the cause. Often the cause
is something else: the machine is switched off, the supervisor kills a worker that does not drain, or another
process uses up the memory. Decision 2 in docs/decisions explains the rules.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import StrEnum, auto
from uuid import UUID

from pydantic import BaseModel, ConfigDict

FAULT_SIGNALS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that a process causes by its own instructions."""

MIN_CRASHES = 2
"""Number of crashes after which a job that ran alone fails. A single crash may be a fault of the machine."""

SUSPICIOUS_LOSSES = 2
"""Number of unexplained losses after which a job runs apart from others. A single loss is usually due to a
reboot."""

MAX_NEIGHBOURS = 50
"""Maximum number of ids of other lost jobs in the evidence. `Evidence.num_in_flight` counts all lost jobs."""


class Cause(StrEnum):
    """Why an attempt was lost."""

    EXIT_CODE = "exit_code"
    """The process exited without a request to stop."""
    FAULT_SIGNAL = "fault_signal"
    """The process was ended by one of FAULT_SIGNALS."""
    MEMORY = "memory"
    """The kernel killed the process because memory ran out, according to its count of such kills."""
    HEARTBEAT_LOST = "heartbeat_lost"
    """The process was alive but hung. Its supervisor logged its stacks and ended it."""
    KILLED = "killed"
    """The process received SIGKILL or another signal from outside."""
    NO_WORD = "no_word"
    """Nothing was reported: the process, its supervisor or its host ended, stopped or was cut off."""
    LEASE_LOST = "lease_lost"
    """The lease expired while the process was alive: it was paused, starved or cut off from Postgres."""
    STOPPED = "stopped"
    """The process was draining or was stopped on purpose."""

    @property
    def may_be_the_jobs(self) -> bool:
        """Whether the job itself may have caused the loss, and no other cause is known."""
        return self in (Cause.EXIT_CODE, Cause.FAULT_SIGNAL, Cause.MEMORY, Cause.HEARTBEAT_LOST)

    @property
    def is_unexplained(self) -> bool:
        """Whether the cause is unknown."""
        return self in (Cause.KILLED, Cause.NO_WORD, Cause.LEASE_LOST)


_IN_WORDS = {
    Cause.MEMORY: "killed by the kernel because memory ran out",
    Cause.HEARTBEAT_LOST: "ended by its supervisor because it hung",
    Cause.NO_WORD: "the worker reported nothing: it, its supervisor or its host ended or lost its connection",
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
        """Describe the ending in words.

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
    """Whether the worker ran only this job from its claim to its loss, as arranged by the dispatcher."""
    num_in_flight: int = 1
    """Number of jobs that were lost with the worker, including this one."""
    in_flight: tuple[UUID, ...] = ()
    """Ids of the other jobs that were lost with the worker; at most MAX_NEIGHBOURS."""

    def __str__(self) -> str:
        if self.alone:
            return f"{super().__str__()}; ran alone"
        return f"{super().__str__()}; {self.num_in_flight} in flight"

    @property
    def convicts(self) -> bool:
        """Whether the job must have been the cause."""
        return self.alone and self.cause.may_be_the_jobs


class Verdict(StrEnum):
    """What happens to a job after a loss."""

    REQUEUE = auto()
    """The job is queued again."""
    SUSPECT = auto()
    """The job is queued again, and runs apart from jobs that are not suspected."""
    PARK = auto()
    """The job stays queued, but is not sent until a user retries it."""
    FAIL = auto()
    """The job fails, because it ends its workers."""


def judge(losses: Sequence[Evidence], *, max_crashes: int, max_losses: int) -> Verdict:
    """Return the verdict on a job, given its losses since it was last cleared, oldest first; at least one.

    A job is parked only after a loss while it ran alone. Groups of suspects are halved at each loss, so if a
    job ends its worker every time, the jobs that ran next to it are never parked with it.

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
