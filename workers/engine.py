"""The contracts of the two engines: text from a language model, and vectors from an encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from jobs.errors import ConfigurationError
from jobs.inference import Completion, Sampling, TemplateArguments
from workers.thinking import Thinking, ThoughtPlan


class ModelUnsupportedError(ConfigurationError):
    """An engine cannot run an architecture. The model is sound, and another engine may run it."""

    code = "model_unsupported"

    def __init__(self, architecture: str, engine: str, reason: str) -> None:
        super().__init__(
            f"the engine {engine!r} cannot run {architecture}: {reason}; choose another engine, or a model "
            "with a supported architecture"
        )
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One text to generate."""

    request_id: str
    """Id that is unique among the requests in flight."""
    prompt_ids: tuple[int, ...]
    """Token ids of the whole prompt, with the chat template applied; at least one."""
    sampling: Sampling
    deadline_at: float | None = None
    """Deadline on time.monotonic(), after which the future gets DeadlineError."""
    thoughts: ThoughtPlan | None = None
    """How to recognise thoughts, for a model that may think before it answers. The completion's text then
    contains the thoughts and their marks, and the caller extracts the answer."""

    @property
    def max_new_tokens(self) -> int:
        """Return the maximum number of new tokens, of thought and answer together."""
        return self.sampling.max_new_tokens + (0 if self.thoughts is None else self.thoughts.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Facts about an engine that the provenance of every completion records. All values are valid in JSON."""

    name: str
    versions: tuple[tuple[str, str], ...]
    """Package and version of each library that does arithmetic, such as torch and transformers."""
    dtype: str
    device: str
    attention: str
    num_slots: int
    max_context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options for opening an engine.

    Every engine module has `open_engine(model_folder, tokenizer, options)`.
    """

    device: str = "cpu"
    """Device in torch's notation, such as "cpu" or "cuda:0"."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Data type of the computation; None selects float32 on a CPU (faster there and batch-invariant) and
    bfloat16 on a GPU."""
    num_slots: int | None = None
    """Number of requests decoded together; None selects a number that suits the device."""
    max_context_tokens: int = 2048
    """Maximum prompt and new tokens of one request together; the model's own limit may be lower."""
    max_prefill_tokens: int | None = None
    """Maximum prompt tokens computed in one step, including padding; None selects a number that suits the
    device."""
    max_prefix_tokens: int = 8192
    """Maximum tokens of shared prompt prefixes whose keys and values are kept; with 0, every prompt is
    computed in full."""
    num_threads: int | None = None
    """Threads on a CPU. For a language model: threads of the whole process (None leaves them as they are).
    For an encoder: batches computed at the same time (None: all cores)."""
    digests: Mapping[str, str] | None = None
    """SHA-256 of each file of the model, from its manifest: a file with a different digest is not loaded."""
    thinking: Thinking = field(default_factory=Thinking)
    """Whether models that can think may do so, and for how long."""
    step_timeout_seconds: float = 300.0
    """Maximum duration of a step; a longer one counts as hung."""
    on_broken: Callable[[], None] | None = None
    """Called when the engine cannot continue, before any future fails: because a step hung (called from a
    separate thread, after the stacks were dumped), or because everything in a batch failed (called from the
    engine's thread). If it is None, the process ends with code 70, because only a new process can have a
    sound device; no job is charged with a failure."""


@dataclass(frozen=True, slots=True)
class EngineProgress:
    """A snapshot of an engine's activity, for heartbeats and the watchdog."""

    num_running: int
    num_waiting: int
    num_steps: int
    seconds_in_step: float
    """Duration of the current step so far; 0 between steps."""


class Engine(Protocol):
    """One model on one device, with continuous batching. Any thread may call any method.

    A request that cannot run fails alone, through its future: with PromptTooLongError or InputError before
    admission, and later with DeadlineError, with EngineError if a step failed because of the request, or with
    CancelledError after cancel(). An error that occurs for all requests of a batch is attributed to the
    engine: the engine ends, and each request gets EngineLostError. Every future that submit() returned is
    completed in any case.
    """

    @property
    def info(self) -> EngineInfo: ...

    def submit(self, request: Request) -> Future[Completion]:
        """Queue the request; never blocks."""
        ...

    def cancel(self, request_id: str) -> None:
        """End the request soon: its future gets CancelledError. An unknown or finished request is ignored."""
        ...

    def progress(self) -> EngineProgress: ...

    def warm(self) -> None:
        """Run prefill and decode once, so that everything is allocated before the first request."""
        ...

    def close(self) -> None:
        """Stop the engine; requests still in flight get EngineLostError."""
        ...


class Tokenizer(Protocol):
    """The model's own tokenizer and chat template. Any thread may call it; it does not need torch."""

    @property
    def num_tokens(self) -> int:
        """Upper bound of token ids, exclusive."""
        ...

    @property
    def end_of_text_ids(self) -> frozenset[int]:
        """Token ids that end a text."""
        ...

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Strings that would end or begin a chat turn if they occurred in a payload."""
        ...

    def encode_chat(
        self, messages: tuple[tuple[str, str], ...], arguments: TemplateArguments = ()
    ) -> tuple[int, ...]:
        """Convert the role and content of each turn into prompt ids, ready for the assistant's turn.

        `arguments` are further variables for the chat template.
        """
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Convert a text that the model continues, without a chat template, into prompt ids."""
        ...

    def decode(self, token_ids: tuple[int, ...]) -> str:
        """Return the text of the ids without special tokens."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of UTF-8 that a token stands for, or a special token's name."""
        ...


EncoderTask = Literal["classify", "embed"]

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One text, or a pair of texts, with the special tokens that the model requires around them."""

    token_ids: tuple[int, ...]
    """Ids of the row's tokens; at least one."""
    type_ids: tuple[int, ...]
    """Segment of each token: 0 for the first text, 1 for the second."""
    is_truncated: bool = field(default=False, compare=False)
    """Whether a text was too long for the model, so that its end is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRequest:
    """One call to an encoder: rows that are answered together."""

    request_id: str
    """Id that is unique among the requests in flight."""
    rows: tuple[EncoderRow, ...]
    deadline_at: float | None = None
    """Deadline on time.monotonic(), after which the future gets DeadlineError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """Facts about an engine that the provenance of every answer records. All values are valid in JSON."""

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

    The answers are the probabilities of `info.labels` for `classify`, and a vector of Euclidean length 1 for
    `embed`. A row's answer is the same, within the tolerance of the dtype, whatever it is batched with; equal
    rows in flight are computed once.

    A request fails alone, through its future: with InputError before admission, and later with DeadlineError,
    with EngineError if a step failed because of one of its rows, or with CancelledError after cancel(). An
    error that occurs for all rows of a batch is attributed to the engine: the engine ends, and each request
    gets EngineLostError. Every future that submit() returned is completed in any case.
    """

    @property
    def info(self) -> EncoderInfo: ...

    def submit(self, request: EncoderRequest) -> Future[tuple[Vector, ...]]:
        """Queue the rows; never blocks. The answers have the order of the rows."""
        ...

    def cancel(self, request_id: str) -> None:
        """End the request soon: its future gets CancelledError. An unknown or finished request is ignored."""
        ...

    def progress(self) -> EngineProgress: ...

    def warm(self) -> None:
        """Run one full batch, so that everything is allocated before the first request."""
        ...

    def close(self) -> None:
        """Stop the encoder; requests still in flight get EngineLostError."""
        ...
