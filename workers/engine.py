"""The engine contract: requests of token ids in, a future each out, batched over whatever is in flight."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from jobs.inference import Completion, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to generate."""

    request_id: str
    """Unique among the requests in flight."""
    prompt_ids: tuple[int, ...]
    """The whole prompt, chat template applied; at least one id."""
    sampling: Sampling
    deadline_at: float | None = None
    """On time.monotonic(); the future then gets DeadlineError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What the provenance of every completion says about its engine. JSON-ready values only."""

    name: str
    versions: tuple[tuple[str, str], ...]
    """Package and version of each library that does arithmetic: torch, transformers, ..."""
    dtype: str
    device: str
    attention: str
    num_slots: int
    max_context_tokens: int


@dataclass(frozen=True, slots=True)
class EngineProgress:
    """A snapshot for heartbeats and the watchdog."""

    num_running: int
    num_waiting: int
    num_steps: int
    seconds_in_step: float
    """How long the step under way has taken so far; 0 between steps."""


class Engine(Protocol):
    """One model on one device, batching continuously. Any thread may call any method.

    A request that cannot run fails alone, through its future: PromptTooLongError or InputError before
    admission, DeadlineError, EngineError for a step that failed because of it, CancelledError after cancel().
    Every future that submit() returned is completed, whatever happens.
    """

    @property
    def info(self) -> EngineInfo: ...

    def submit(self, request: Request) -> Future[Completion]:
        """Queue the request; never blocks."""
        ...

    def cancel(self, request_id: str) -> None:
        """End the request soon, its future with CancelledError; no error if it is unknown or done."""
        ...

    def progress(self) -> EngineProgress: ...

    def warm(self) -> None:
        """Run once through prefill and decode, so that the first request finds everything allocated."""
        ...

    def close(self) -> None:
        """Stop; what is still in flight gets EngineError."""
        ...


class Tokenizer(Protocol):
    """The model's own tokenizer and chat template. Any thread may call it; it does not need torch."""

    @property
    def num_tokens(self) -> int:
        """Ids are below this."""
        ...

    @property
    def end_of_text_ids(self) -> frozenset[int]:
        """Any of these ends a text."""
        ...

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Strings that would end or begin a chat turn if they stood in a payload."""
        ...

    def encode_chat(self, messages: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
        """Role and content of each turn -> prompt ids, ready for the assistant's turn."""
        ...

    def decode(self, token_ids: tuple[int, ...]) -> str:
        """Text of the ids, special tokens left out."""
        ...
