"""The interface of a kind of job: what a kind declares, and what its jobs may use while they run."""

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
    """The prompt template that a result was made with, for its provenance."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Parent:
    """One input that a result was made from: a document, an item, a model."""

    role: str
    """Role in which the input was used: "document", "template", ..."""
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file that a job made."""

    name: str
    """File name, unique in the job. Its extension gives the format: "report.md"."""
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a job: its artifacts, and figures about them."""

    artifacts: tuple[Artifact, ...]
    """At least one artifact; the first is the one that people read."""
    template: Template | None = None
    """The prompt template used; None for a job that sends no prompt to a language model."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """Figures for people, as JSON values. They appear in the summary and the export."""
    output: BaseModel | None = None
    """Output for later stages and the export: an instance of the stage's `output_type`."""
    records: tuple[object, ...] = ()
    """Rows of the kind's own tables. `Tables.writer` writes them in the transaction in which the job
    succeeds."""
    parents: tuple[Parent, ...] = ()
    """Inputs that the result was made from, for its provenance. At most MAX_PARENTS are listed
    individually."""


class Resources(Protocol):
    """Inputs that jobs share, each stored once under its digest. A worker caches them while it has room."""

    def read(self, sha256: str) -> bytes:
        """Return the bytes of a resource, checked against their digest, without caching them.

        Raises ResourceMissingError.
        """
        ...

    def load(self, sha256: str, parse: Callable[[bytes], ResourceT]) -> ResourceT:
        """Return a resource parsed by `parse`, a module-level function. A worker parses it only once."""
        ...

    def load_together(self, sha256s: tuple[str, ...], parse: Callable[..., ResourceT]) -> ResourceT:
        """Like `load` for several resources: `parse` receives the bytes of each.

        `parse` must be hashable and compare equal to its equals.
        """
        ...

    def write(self, body: bytes, *, media_type: str) -> str:
        """Store a resource for later jobs of the batch and return its digest."""
        ...


class Context(Protocol):
    """The settings and services that a running job may use."""

    @property
    def inference(self) -> Inference: ...

    @property
    def resources(self) -> Resources: ...

    def port(self, port_type: type[PortT], /) -> PortT:
        """Return the service of this type that the job's kind declares in `Kind.ports`.

        Raises PermanentError if the kind declares none, and the error that ends the job if this worker no
        longer holds it.
        """
        ...

    @property
    def seed(self) -> int:
        """The job's own seed, derived from the batch and the line. It is the same for every retry."""
        ...

    @property
    def custom_id(self) -> str:
        """The id that the producer gave the line."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """The batch's settings, which apply to all its jobs. The kind's settings model parses them."""
        ...


class PlanContext(Protocol):
    """The outputs of finished stages, for planning the next stage."""

    def outputs(self, output_type: type[OutputT], stage: str | None = None) -> Iterable[tuple[str, OutputT]]:
        """Stream custom_id and output of every succeeded job, in order.

        Reads the stage that closed last, or the one named; yields nothing if the batch has no such stage.
        Raises PermanentError (`output_unfit`) for an output that is not of this type.
        """
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """The batch's settings, as in Context."""
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
    """One step of a batch. All its jobs close before the next stage is planned."""

    name: str
    output_type: type[BaseModel] | None = None
    """Type of each job's `Result.output`, which `Kind.plan` and the export read; None if the jobs have no
    output."""
    max_running: int | None = None
    """Maximum jobs of this stage that a worker process runs at the same time; None for no limit. Set it where
    more jobs at once would not be faster, such as for jobs that compute in Python."""


@dataclass(frozen=True, slots=True)
class Port:
    """A service that a kind defines and its jobs reach through `context.port(TYPE)`."""

    type: type[object]
    """The protocol or class by which a job requests the service."""
    opener: str
    """MODULE:FUNCTION, a `workers.ports.PortOpener`. It is called once per worker process, at startup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The Postgres tables that a kind defines."""

    module: str
    """Module that adds the tables to `db.tables.Base.metadata` when it is imported."""
    migrations: str
    """Package with the Alembic revisions: `migrations`, next to the kind's module, so that it is found
    without loading the kind. Revisions are named after the kind, such as NAME_0001; the first one has the
    kind's name as its branch label."""
    writer: str | None = None
    """MODULE:FUNCTION, a `db.outcomes.RecordWriter`. It writes `Result.records` in the transaction in which
    their jobs succeed."""


@dataclass(frozen=True, slots=True)
class Input:
    """One of the inputs that a batch is made from: a file, or rows in memory."""

    name: str
    """Name of the input: "rows", "documents", ..."""
    help: str
    """Contents and formats of the input, for help texts."""
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Specifies how the inputs of a batch become its jobs."""

    reader: str
    """MODULE:FUNCTION, a `workers.intake.IntakeReader`, which turns the records of the inputs into jobs."""
    inputs: tuple[Input, ...]
    """At least one input; commands take the first one as their argument FILE."""
    options_type: type[BaseModel] | None = None
    """Options of a submission, if they differ from the kind's settings type: the reader derives the settings
    of the batch from them."""


ROWS = Intake(
    reader="workers.intake:read_rows",
    inputs=(Input("rows", "Table with a row for each job: CSV, JSONL or Parquet, also .gz;"),),
)
"""The intake of a kind that declares none: each row of one table is the payload of one job."""


@dataclass(frozen=True, slots=True)
class Background:
    """A service that a kind defines and that runs alongside long-running commands."""

    name: str
    """Name of the service in logs."""
    target: str
    """MODULE:FUNCTION, a `workers.background.BackgroundOpener`."""
    under: frozenset[str]
    """Commands that run the service: "beat" (also within `up`), "up" alone, or "run" (while a batch of the
    kind is run)."""


class Kind(ABC, Generic[PayloadT]):
    """A kind of content. The simplest one is a payload model and `run`; everything else has a default.

    A kind has no state, so any thread may call it. Parts that need a service, such as the exporter, are given
    as MODULE:ATTRIBUTE and loaded where they are used, so that a worker does not load the command line, and
    the command line does not load a worker.
    """

    name: ClassVar[str]
    """Unique among the installed kinds, and the name of its entry point."""
    version: ClassVar[str] = "1"
    """Version of the kind. It rises when the prompt or the output changes."""
    payload_type: type[PayloadT]
    settings_type: type[BaseModel] = NoSettings
    """Settings that a batch may give for all its jobs, such as template and sampling. Unknown names are
    refused."""
    default_model: ClassVar[str | None] = None
    """Model of a batch that names none; None for a kind that uses no model."""
    intake: ClassVar[Intake | None] = ROWS
    """How inputs become jobs: by default, each row of a table is one job. None for a kind whose batches only
    its own commands create."""
    stages: ClassVar[tuple[Stage, ...]] = (Stage("run"),)
    ports: ClassVar[tuple[Port, ...]] = ()
    tables: ClassVar[Tables | None] = None
    exporter: ClassVar[str | None] = None
    """MODULE:FUNCTION, a `pressroom.export.Exporter`. With None, artifacts, a table and an index page are
    written."""
    describer: ClassVar[str | None] = None
    """MODULE:CLASS, a `pressroom.describers.Describer`, which describes the outcome of a batch and the result
    of a job. With None, `pressroom status` prints counts, and `pressroom show` attempts and provenance."""
    recurring: ClassVar[str | None] = None
    """MODULE:CLASS, derived from `workers.recurring.KindSchedules`, for a kind whose schedules do more than
    read inputs again: it creates the batch of a due time, and describes and removes a schedule."""
    background: ClassVar[tuple[Background, ...]] = ()

    def warm(self) -> None:
        """Load what jobs would otherwise wait for, such as a drawing library; called while a worker starts.

        Load it here rather than at import: what the kind's module imports is loaded by every command.
        """

    def models(
        self,
        model: str,
        settings: BaseModel,  # noqa: ARG002
        stage: str,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Return every model that the stage's jobs may use in a batch with this model and these settings.

        The models determine the profile, which is the queue. A stage without models runs on workers without
        an engine.
        """
        return (model,) if model else ()

    def first_request(
        self,
        payload: PayloadT,  # noqa: ARG002
        settings: BaseModel,  # noqa: ARG002
    ) -> tuple[Prompt, Sampling] | None:
        """Return the first model call of a job, which intake checks against the model's context length.

        Return None if the call is not known in advance.
        """
        return None

    def prompt_prefix(self, payload: PayloadT) -> str:  # noqa: ARG002
        """Return a key shared by jobs whose prompts begin alike, so that they are dispatched together."""
        return ""

    @abstractmethod
    def run(self, payload: PayloadT, context: Context) -> Result:
        """Produce the result of one job. Raises PermanentError or TransientError."""

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, PayloadT]]:  # noqa: ARG002
        """Return the jobs of `stage`, the one after that which closed, as pairs of custom_id and payload."""
        return ()
