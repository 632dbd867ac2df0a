"""What a kind of job must say about itself, and the only things it may touch while it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from jobs.inference import Inference, Prompt, Sampling

PayloadT = TypeVar("PayloadT", bound=BaseModel)
ResourceT = TypeVar("ResourceT")
PortT = TypeVar("PortT")
OutputT = TypeVar("OutputT", bound=BaseModel)


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
    """"document", "template", ..."""
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file that a job made."""

    name: str
    """Unique in the job, its extension says the format: "report.md"."""
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
    """Figures for people, as JSON values: the summary and the export show them."""
    output: BaseModel | None = None
    """What it leaves for later stages and the export: an instance of its stage's `output_type`."""
    records: tuple[object, ...] = ()
    """Rows of the kind's own tables, which `Tables.writer` writes in the transaction that makes the job
    succeed."""
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
    """What a running job may use."""

    @property
    def inference(self) -> Inference: ...

    @property
    def resources(self) -> Resources: ...

    def port(self, port_type: type[PortT], /) -> PortT:
        """The service of this type that the job's kind declares in `Kind.ports`.

        Raises PermanentError if it declares none, and what ends a job that this worker no longer holds.
        """
        ...

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

    def outputs(self, output_type: type[OutputT], stage: str | None = None) -> Iterable[tuple[str, OutputT]]:
        """custom_id and output of every succeeded job, in order, streamed.

        Of the stage that closed last, or of an earlier one; nothing of one that the batch does not have.
        Raises PermanentError (`output_unfit`) for an output that is not of this type.
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


class NoSettings(BaseModel):
    """The settings of a kind that has none: every name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a batch: all its jobs close before the next stage is planned."""

    name: str
    output_type: type[BaseModel] | None = None
    """What each of its jobs leaves as `Result.output`, for `Kind.plan` and the export; None if they leave
    nothing."""


@dataclass(frozen=True, slots=True)
class Port:
    """A service of a kind's own, which its jobs reach by `context.port(TYPE)`."""

    type: type[object]
    """The protocol or class that a job asks for."""
    opener: str
    """MODULE:FUNCTION, a `workers.ports.PortOpener`: called once in a worker process, when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Tables of a kind's own in Postgres."""

    module: str
    """Its import adds the tables to `db.tables.Base.metadata`."""
    migrations: str
    """Package with the alembic revisions: `migrations` beside the module of the kind, where it is found
    without loading the kind. They are named after the kind, such as NAME_0001; the first one has the kind's
    name as its branch label."""
    writer: str | None = None
    """MODULE:FUNCTION, a `db.records.RecordWriter`: writes `Result.records` in the transaction that makes
    their jobs succeed."""


@dataclass(frozen=True, slots=True)
class Background:
    """A service of a kind's own that runs beside commands that keep running."""

    name: str
    """For logs."""
    target: str
    """MODULE:FUNCTION, a `workers.background.BackgroundOpener`."""
    under: frozenset[str]
    """Where it runs: "beat" (also within `up`), "up" alone, or "run" (while a batch of the kind is run)."""


class Kind(ABC, Generic[PayloadT]):
    """A kind of content. A payload model and `run` make the simplest one; everything else has a default.

    A kind has no state: any thread may call it. Facets that need a service, such as the exporter, are named
    as MODULE:ATTRIBUTE and loaded where they are used, so that a worker loads no command line and the
    command line loads no worker.
    """

    name: ClassVar[str]
    """Unique among the installed kinds, and the name of its entry point."""
    version: ClassVar[str] = "1"
    """Rises when the prompt or the output changes."""
    payload_type: type[PayloadT]
    settings_type: type[BaseModel] = NoSettings
    """What a batch may fix for all its jobs: template, sampling; unknown names are refused."""
    default_model: ClassVar[str | None] = None
    """The model of a batch that names none; None for a kind that asks no model."""
    rows_are_jobs: ClassVar[bool] = True
    """Whether each row of one table is the payload of a job, so that any file of rows makes a batch; a kind
    that reads anything else has commands of its own."""
    stages: ClassVar[tuple[Stage, ...]] = (Stage("run"),)
    ports: ClassVar[tuple[Port, ...]] = ()
    tables: ClassVar[Tables | None] = None
    exporter: ClassVar[str | None] = None
    """MODULE:FUNCTION, a `pressroom.exporters.Exporter`; None writes artifacts, a table and an index page."""
    starter: ClassVar[str | None] = None
    """MODULE:FUNCTION, a `workers.recurring.Starter`, which makes the batch of a schedule's due time; None
    reads the schedule's table again."""
    background: ClassVar[tuple[Background, ...]] = ()

    def warm(self) -> None:
        """Load what jobs would wait for, such as a library that draws: called while a worker starts.

        What the module of the kind imports is loaded in every command, too.
        """

    def models(
        self,
        model: str,
        settings: BaseModel,  # noqa: ARG002
        stage: str,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Every model that the stage's jobs may ask, in a batch with this model and settings.

        They decide the profile, which is the queue: a stage without models runs where there is no engine.
        """
        return (model,) if model else ()

    def first_request(
        self,
        payload: PayloadT,  # noqa: ARG002
        settings: BaseModel,  # noqa: ARG002
    ) -> tuple[Prompt, Sampling] | None:
        """The model call that a job begins with: intake measures it against the model's context.

        None where that is not known before.
        """
        return None

    def prompt_prefix(self, payload: PayloadT) -> str:  # noqa: ARG002
        """A key that jobs share whose prompts begin alike: such jobs are dispatched next to each other."""
        return ""

    @abstractmethod
    def run(self, payload: PayloadT, context: Context) -> Result:
        """Make one result. Raises PermanentError or TransientError."""

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, PayloadT]]:  # noqa: ARG002
        """The jobs of a stage that follows a closed one: custom_id and payload each."""
        return ()
