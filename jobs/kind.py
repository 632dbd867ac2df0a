"""What a kind of job must say about itself, and the only things it may touch while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

from pydantic import BaseModel

from jobs.inference import Inference, Prompt, Sampling
from jobs.records import Record
from jobs.sources import Sources
from kinds.classifier.order import Training
from kinds.sentiment.history import History

PayloadT = TypeVar("PayloadT", bound=BaseModel)
ResourceT = TypeVar("ResourceT")


@dataclass(frozen=True, slots=True)
class Template:
    """Which prompt template a result was made with, for its provenance."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Parent:
    """Something that a result was made from: a document, an item, a model."""

    role: str
    """"document", "watchlist", ..."""
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file that a job made."""

    name: str
    """Unique in the job, its extension says the format: "article.md"."""
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job made: its artifacts, and figures about them."""

    artifacts: tuple[Artifact, ...]
    """At least one; the first is the one that people read."""
    template: Template | None = None
    """None for a job that says nothing to a language model."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """JSON values that the summary, the export and later gates read; kept in Postgres beside the artifact."""
    records: tuple[Record, ...] = ()
    """Rows of the kind's own tables, written in the transaction that makes the job succeed."""
    parents: tuple[Parent, ...] = ()
    """What it was made from, for its provenance; at most MAX_PARENTS are listed one by one."""


class Resources(Protocol):
    """Inputs that jobs share: stored once, named by content, kept by a worker while it has room."""

    def read(self, sha256: str) -> bytes:
        """The bytes of a resource, checked against their digest; not kept. Raises ResourceMissingError."""
        ...

    def load(self, sha256: str, parse: Callable[[bytes], ResourceT]) -> ResourceT:
        """What `parse`, a function of a module, makes of a resource; made once a worker."""
        ...

    def load_together(self, sha256s: tuple[str, ...], parse: Callable[..., ResourceT]) -> ResourceT:
        """As `load`, of several: `parse` gets the bytes of each. It is hashable, and equal to its equals."""
        ...

    def write(self, body: bytes, *, media_type: str) -> str:
        """Store a resource for later jobs of the batch; its digest."""
        ...


class Context(Protocol):
    """The ports that a running job may use."""

    @property
    def inference(self) -> Inference: ...

    @property
    def resources(self) -> Resources: ...

    @property
    def history(self) -> History:
        """What earlier batches left in Postgres."""
        ...

    @property
    def sources(self) -> Sources:
        """Feeds, object stores and databases outside."""
        ...

    @property
    def training(self) -> Training: ...

    @property
    def seed(self) -> int:
        """The job's own seed, derived from batch and line: stable over retries."""
        ...

    @property
    def custom_id(self) -> str:
        """The producer's name for the line."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What the batch fixes for all its jobs: the kind's own settings model reads it."""
        ...


class PlanContext(Protocol):
    """What finished stages left, for planning the next one."""

    def results(self, stage: str | None = None) -> Iterable[tuple[str, Mapping[str, object]]]:
        """custom_id and metrics of every succeeded job, in order, streamed.

        Of the stage that closed last, or of an earlier one; nothing of one that the batch does not have.
        """
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """As Context has them."""
        ...

    @property
    def num_failed(self) -> int:
        """Jobs of the batch that have failed so far."""
        ...


class Kind(Protocol[PayloadT]):
    """A kind of content: its input, its stages, and the blocking code that makes one result."""

    name: ClassVar[str]
    version: ClassVar[str]
    """Rises when the prompt or the output changes."""
    stages: ClassVar[tuple[str, ...]]
    payload_type: type[PayloadT]
    settings_type: type[BaseModel]
    """What a batch may fix for all its jobs: template, sampling; unknown names are refused."""

    def models(self, model: str, settings: BaseModel, stage: str) -> tuple[str, ...]:
        """Every model that the stage's jobs may ask, in a batch with this model and settings.

        They decide the profile, which is the queue: a stage without models runs where there is no engine.
        """
        ...

    def first_request(self, payload: PayloadT, settings: BaseModel) -> tuple[Prompt, Sampling] | None:
        """The model call that a job begins with: intake measures it against the model's context.

        None where that is not known before.
        """
        ...

    def prompt_prefix(self, payload: PayloadT) -> str:
        """A key that jobs share whose prompts begin alike: such jobs are dispatched next to each other."""
        ...

    def run(self, payload: PayloadT, context: Context) -> Result:
        """Make one result. Raises PermanentError or TransientError."""
        ...

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, PayloadT]]:
        """The jobs of a stage that follows a closed one: custom_id and payload each."""
        ...
