"""What a lost attempt leaves as evidence, and what follows from it for the job.

A worker that ends takes every job with it that it held. At most one of them is to blame, and often none: a
machine is switched off, a supervisor kills what does not drain, memory runs short because of a neighbour.
Decision 2 in docs/decisions says why the rules are as they are.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from enum import StrEnum, auto
from uuid import UUID

from pydantic import BaseModel, ConfigDict

FAULT_SIGNALS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Raised by what a process itself does."""

MIN_CRASHES = 2
"""One crash of a job that ran alone may be a fault of the machine."""

SUSPICIOUS_LOSSES = 2
"""Unexplained losses in a row before a job runs apart from others: one loss is usually a reboot."""

MAX_NEIGHBOURS = 50
"""Ids of neighbours that the evidence names; the number is always exact."""


class Cause(StrEnum):
    """Why an attempt was lost."""

    EXIT_CODE = "exit_code"
    """The process ended by itself, without having been asked to."""
    FAULT_SIGNAL = "fault_signal"
    """The process was ended by a signal that its own instructions raise: FAULT_SIGNALS."""
    MEMORY = "memory"
    """The kernel killed the process for want of memory, and its count of such kills says so."""
    HEARTBEAT_LOST = "heartbeat_lost"
    """The process lived and stood still; its supervisor wrote its stacks to the log and ended it."""
    KILLED = "killed"
    """SIGKILL or another signal from outside, by whomever."""
    NO_WORD = "no_word"
    """No word came: the process, its supervisor or its host is gone, or was cut off or stopped."""
    LEASE_LOST = "lease_lost"
    """The lease ran out while the process lived: it was stopped, starved or cut off from Postgres."""
    STOPPED = "stopped"
    """The process was draining or was stopped on purpose."""

    @property
    def may_be_the_jobs(self) -> bool:
        """Whether a job can have done this to its worker, and nobody else is known to have."""
        return self in (Cause.EXIT_CODE, Cause.FAULT_SIGNAL, Cause.MEMORY, Cause.HEARTBEAT_LOST)

    @property
    def is_unexplained(self) -> bool:
        """Whether nobody knows whose doing it was."""
        return self in (Cause.KILLED, Cause.NO_WORD, Cause.LEASE_LOST)


_IN_WORDS = {
    Cause.MEMORY: "by the kernel for want of memory",
    Cause.HEARTBEAT_LOST: "by its supervisor, since it stood still",
    Cause.NO_WORD: "no word came from the worker: it, its supervisor or its host is gone or was cut off",
    Cause.LEASE_LOST: "the lease ran out while the worker lived",
    Cause.STOPPED: "the worker was stopped",
}


class Ending(BaseModel):
    """How a worker process ended, as its supervisor saw it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cause: Cause
    exit_code: int | None = None
    signal: str | None = None
    """By name: "SIGSEGV"."""

    def __str__(self) -> str:
        """For people: "signal SIGSEGV".

        >>> str(Ending(cause=Cause.EXIT_CODE, exit_code=3))
        'exit code 3'
        >>> str(Ending(cause=Cause.MEMORY, signal="SIGKILL"))
        'signal SIGKILL, by the kernel for want of memory'
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
    """What is known of one lost attempt."""

    alone: bool = False
    """The worker ran this job and nothing else, by arrangement, from its claim to its loss."""
    num_in_flight: int = 1
    """Jobs that were lost with the worker, this one included."""
    in_flight: tuple[UUID, ...] = ()
    """The others; the first MAX_NEIGHBOURS."""

    def __str__(self) -> str:
        if self.alone:
            return f"{super().__str__()}; ran alone"
        return f"{super().__str__()}; {self.num_in_flight} in flight"

    @property
    def convicts(self) -> bool:
        """Whether nothing but the job can have been the cause."""
        return self.alone and self.cause.may_be_the_jobs


class Verdict(StrEnum):
    """What becomes of a job after a loss."""

    REQUEUE = auto()
    """It is queued as it was before."""
    SUSPECT = auto()
    """It is queued, and runs apart from those that are not suspected."""
    PARK = auto()
    """It stays queued and is not sent until a user releases it."""
    FAIL = auto()
    """It failed: it ends its worker."""


def judge(losses: Sequence[Evidence], *, max_crashes: int, max_losses: int) -> Verdict:
    """What follows for a job from its losses since it was last cleared, oldest first; one at least.

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
