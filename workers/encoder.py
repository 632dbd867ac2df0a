"""The encoder contract: rows of token ids in, one vector each out, batched with all rows in flight."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.engine import EngineProgress

EncoderTask = Literal["classify", "embed"]

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One text, or a pair of texts, with the special tokens that the model requires around them."""

    token_ids: tuple[int, ...]
    """At least one id."""
    type_ids: tuple[int, ...]
    """Segment of each token: 0 for the first text, 1 for the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRequest:
    """Rows that one caller waits for."""

    request_id: str
    """Unique among the requests in flight."""
    rows: tuple[EncoderRow, ...]
    deadline_at: float | None = None
    """Deadline on time.monotonic(), after which the future gets DeadlineError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """Facts about an engine that the provenance of every answer records. JSON-ready values only."""

    name: str
    task: EncoderTask
    versions: tuple[tuple[str, str], ...]
    """Package and version of each library that does arithmetic."""
    dtype: str
    device: str
    attention: str
    max_batch_tokens: int
    """Maximum tokens per step, including padding."""
    max_tokens: int
    """Maximum tokens per row."""
    labels: tuple[str, ...] = ()
    """Labels of a classifier, in the order of the probabilities in its answers."""


class Encoder(Protocol):
    """One encoding model on one device. Any thread may call any method.

    The answers are the probabilities of `info.labels` for `classify`, and a vector of length 1 for `embed`. A
    row's answer is the same, within the tolerance of the dtype, whatever it is batched with; equal rows in
    flight are computed once.

    A request fails alone, through its future: with InputError before admission, DeadlineError, EngineError
    for a step that failed because of one of its rows, or CancelledError after cancel(). An error that all
    rows of a batch have is the engine's own: the engine ends, and each request gets EngineLostError. Every
    future that submit() returned is completed in any case.
    """

    @property
    def info(self) -> EncoderInfo: ...

    def submit(self, request: EncoderRequest) -> Future[tuple[Vector, ...]]:
        """Queue the rows; never blocks. The answers have the order of the rows."""
        ...

    def cancel(self, request_id: str) -> None:
        """End the request soon, its future with CancelledError; ignored if the request is unknown or done."""
        ...

    def progress(self) -> EngineProgress: ...

    def warm(self) -> None:
        """Run one full batch, so that everything is allocated before the first request."""
        ...

    def close(self) -> None:
        """Stop the encoder; requests still in flight get EngineLostError."""
        ...
