"""Results that are kept by the digest of everything they were made from, so that each is made only once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A result that later jobs of the kind may use again.

    It is written in the transaction in which its job succeeds. A key keeps its first result, because others
    may have used it already.
    """

    keep: str = ""
    """Name under which the results are kept. Each name has results of its own; empty if the kind needs no
    names."""
    key: str
    """SHA-256 of everything that the result depends on, as `jobs.provenance.payload_digest` returns it."""
    subject: str
    """What the result is about, such as the id of a row. A subject whose key is new has changed."""
    value: Mapping[str, object]
    """The result itself, as JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResult:
    """A result that was kept, and the job whose statement is its provenance."""

    key: str
    subject: str
    """Subject of the job that made the result first; others may have the same key."""
    value: Mapping[str, object]
    job_id: UUID
    statement_sha256: str
    """Digest of the job's provenance statement, which is deleted with the job's batch."""


class KeptResults(Protocol):
    """Reads the kept results of the job's kind. Each method uses its own connection; any thread may call it.

    Results of jobs that are running at the same time may not be there yet, so two jobs may make the same
    result. The first one that is committed is kept.
    """

    def find(self, keys: Collection[str], *, keep: str = "") -> Mapping[str, KeptResult]:
        """Return the kept results by key; a key without a result is left out."""
        ...

    def known(self, keys: Collection[str], *, keep: str = "") -> frozenset[str]:
        """Return those of the keys that have a result, without reading the results."""
        ...


class KeptStatus(StrEnum):
    """How what is to be made relates to what is kept."""

    NEW = "new"
    """No result with this subject is kept."""
    CHANGED = "changed"
    """A result with this subject is kept, but it was made from something else."""
    UNCHANGED = "unchanged"
    """The result is kept, so nothing has to be made."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Measured cost of the latest kept results."""

    num_new_tokens: float
    """Average number of generated tokens per result."""
    tokens_per_second: float | None
    """Rate of all jobs of a batch together; None if the jobs were deleted or took no time."""
