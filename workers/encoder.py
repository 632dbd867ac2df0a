"""The encoder contract: rows of token ids in, a vector each out, batched over whatever is in flight."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.engine import EngineProgress

EncoderTask = Literal["classify", "embed"]

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One text, or a pair of texts, with the special tokens that the model wants around them."""

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
    """On time.monotonic(); the future then gets DeadlineError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What the provenance of every answer says about its engine. JSON-ready values only."""

    name: str
    task: EncoderTask
    versions: tuple[tuple[str, str], ...]
    """Package and version of each library that does arithmetic."""
    dtype: str
    device: str
    attention: str
    max_batch_tokens: int
    """Tokens of one step, padding included."""
    max_tokens: int
    """Of a row."""
    labels: tuple[str, ...] = ()
    """Of a classifier, in the order of the probabilities that it answers with."""


class Encoder(Protocol):
    """One encoding model on one device. Any thread may call any method.

    Answers: for `classify` the probabilities of `info.labels`, for `embed` a vector of length 1.
    A row is answered the same, to the tolerance of the dtype, whatever it is batched with; equal rows in
    flight are computed once.

    A request fails alone, through its future: InputError before admission, DeadlineError, EngineError for a
    step that failed because of one of its rows, CancelledError after cancel(). An error that all rows of a
    batch have is the engine's own: it ends, and each request gets EngineLostError. Every future that submit()
    returned is completed, whatever happens.
    """

    @property
    def info(self) -> EncoderInfo: ...

    def submit(self, request: EncoderRequest) -> Future[tuple[Vector, ...]]:
        """Queue the rows; never blocks. The answers come in the order of the rows."""
        ...

    def cancel(self, request_id: str) -> None:
        """End the request soon, its future with CancelledError; no error if it is unknown or done."""
        ...

    def progress(self) -> EngineProgress: ...

    def warm(self) -> None:
        """Run one full batch, so that the first request finds everything allocated."""
        ...

    def close(self) -> None:
        """Stop; what is still in flight gets EngineLostError."""
        ...
