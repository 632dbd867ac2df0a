"""The engine contract: requests of token ids in, a future each out, batched over whatever is in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from jobs.errors import ConfigurationError
from jobs.inference import Completion, Sampling
from workers.thinking import Thinking, ThoughtPlan


class ModelUnsupportedError(ConfigurationError):
    """An engine cannot run an architecture: the model is sound, and another engine may run it."""

    code = "model_unsupported"

    def __init__(self, architecture: str, engine: str, reason: str) -> None:
        super().__init__(
            f"the engine {engine!r} cannot run {architecture}: {reason}; choose another engine, or a model "
            "of a supported architecture"
        )
        self.reason = reason


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
    thoughts: ThoughtPlan | None = None
    """Of a model that may think before it answers; the completion's text then has the thoughts and their
    marks in it, and the caller reads the answer out of it."""

    @property
    def max_new_tokens(self) -> int:
        """Of thought and answer together."""
        return self.sampling.max_new_tokens + (0 if self.thoughts is None else self.thoughts.max_tokens)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine is opened. Every engine module has `open_engine(model_folder, tokenizer, options)`."""

    device: str = "cpu"
    """As torch names it: "cpu", "cuda:0"."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """None takes float32 on a CPU (faster there and batch-invariant) and bfloat16 on a GPU."""
    num_slots: int | None = None
    """Requests decoded together; None chooses for the device."""
    max_context_tokens: int = 2048
    """Prompt and new tokens of one request; the model's own limit may be lower."""
    max_prefill_tokens: int | None = None
    """Prompt tokens computed in one step, padding included; None chooses for the device."""
    max_prefix_tokens: int = 8192
    """Tokens of shared prompt prefixes whose keys and values are kept; 0 computes every prompt whole."""
    num_threads: int | None = None
    """On a CPU: of the whole process, for a language model (None leaves them as they are), or batches that an
    encoder computes at the same time (None: all cores)."""
    digests: Mapping[str, str] | None = None
    """SHA-256 of each file of the model, as its manifest has them: a file of other bytes is not loaded."""
    thinking: Thinking = field(default_factory=Thinking)
    """Whether models that can think are let think, and for how long."""
    step_timeout_seconds: float = 300.0
    """A step that takes longer is hung."""
    on_broken: Callable[[], None] | None = None
    """Called when the engine cannot go on, before any future fails: a step hung (from a thread of its own,
    after the stacks were dumped), or everything in a batch failed (from the engine's). None ends the process
    with code 70: only a new one has a sound device, and no job is charged for what the old one did."""


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
    An error that all requests of a batch have is the engine's own: it ends, and each gets EngineLostError.
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
        """Stop; what is still in flight gets EngineLostError."""
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
