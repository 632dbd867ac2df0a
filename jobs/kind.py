"""The interface of a kind of job: what a kind declares, and what its jobs may use while they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from jobs.inference import Inference, Prompt, RawPrompt, RequestSize, Sampling
from jobs.kept import Kept, KeptResults

PayloadT = TypeVar("PayloadT", bound=BaseModel)
ResourceT = TypeVar("ResourceT")
PortT = TypeVar("PortT")
OutputT = TypeVar("OutputT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Template:
    """The prompt template that produced a result, for its provenance."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Parent:
    """An input that a result was made from, such as a document, an item or a model."""

    role: str
    """Role of the input, such as "document" or "template"."""
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a job produced."""

    name: str
    """File name, unique among the job's artifacts, with the format's extension, such as "report.md"."""
    media_type: str
    body: bytes
    is_resource: bool = False
    """Whether later jobs read the artifact by its digest, through `Context.resources`. The artifact is then a
    separate object, whose key is derived from the digest, rather than a part of a pack with other small
    artifacts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a job: its artifacts, metrics, output and records."""

    artifacts: tuple[Artifact, ...]
    """Artifacts; at least one. The first one is for people to read."""
    template: Template | None = None
    """Prompt template that was used; None for a job that sends no prompt to a language model."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """Metrics for people, as JSON values. They appear in the summary and the export."""
    output: BaseModel | None = None
    """Output for later stages and for the export, an instance of the stage's `output_type`."""
    records: tuple[object, ...] = ()
    """Rows of the kind's own tables. `Tables.writer` writes them in the transaction in which the job
    succeeds."""
    kept: tuple[Kept, ...] = ()
    """Results that later jobs of the kind find in `Context.kept`. They are written in the transaction in
    which the job succeeds."""
    parents: tuple[Parent, ...] = ()
    """Inputs that the result was made from, for its provenance, which lists at most MAX_PARENTS of them."""


class Resources(Protocol):
    """Access to inputs that jobs share, each of which is stored once under its digest.

    A worker keeps parsed inputs in a cache of limited size.
    """

    def read(self, sha256: str) -> bytes:
        """Return the bytes of a resource without caching them. They are checked against the digest.

        Raises ResourceMissingError.
        """
        ...

    def load(self, sha256: str, parse: Callable[[bytes], ResourceT]) -> ResourceT:
        """Return a resource, parsed by the module-level function `parse`. A worker caches the result."""
        ...

    def load_together(self, sha256s: tuple[str, ...], parse: Callable[..., ResourceT]) -> ResourceT:
        """Parse several resources together, like `load`. `parse` receives the bytes of each of them.

        `parse` must be hashable, and equal to every function or object that does the same.
        """
        ...

    def write(self, body: bytes, *, media_type: str) -> str:
        """Store a resource for later jobs of the batch, and return its digest."""
        ...


class Context(Protocol):
    """The settings and services that a running job may use."""

    @property
    def inference(self) -> Inference: ...

    @property
    def resources(self) -> Resources: ...

    @property
    def kept(self) -> KeptResults:
        """The results that jobs of this kind have kept. Raises as `port` does if this worker lost the job."""
        ...

    def port(self, port_type: type[PortT], /) -> PortT:
        """Return the service of this type that the job's kind declares in `Kind.ports`.

        Raises PermanentError if the kind does not declare it. If this worker has lost the job, the error that
        ends the job is raised.
        """
        ...

    @property
    def seed(self) -> int:
        """The job's own seed, derived from the batch's seed and the input line's id.

        Retries have the same seed.
        """
        ...

    @property
    def custom_id(self) -> str:
        """The id of the job's input line, chosen by the producer."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """The batch's settings, which apply to all its jobs. `Kind.settings_type` parses them."""
        ...


class PlanContext(Protocol):
    """The outputs of finished stages, for planning the next stage."""

    def outputs(self, output_type: type[OutputT], stage: str | None = None) -> Iterable[tuple[str, OutputT]]:
        """Stream the custom_id and output of each succeeded job of a stage, in order.

        The stage is the last one that closed, unless `stage` names another. Yields nothing if the batch has
        no such stage. Raises PermanentError (`output_unfit`) for an output that is not of this type.
        """
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """The batch's settings, as in Context."""
        ...

    @property
    def num_failed(self) -> int:
        """Number of the batch's jobs that have failed so far."""
        ...


class NoSettings(BaseModel):
    """The settings of a kind that has none: every name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a batch. All its jobs are final before the next stage is planned."""

    name: str
    output_type: type[BaseModel] | None = None
    """Type of each job's `Result.output`, which `Kind.plan` and the export read; None if the jobs have no
    output."""
    max_running: int | None = None
    """Maximum number of this stage's jobs that a worker process runs at the same time; None for no limit. Set
    it if more jobs at a time would not be faster, for example because they compute in Python."""


@dataclass(frozen=True, slots=True)
class Port:
    """A service that a kind defines and that its jobs get by `context.port(TYPE)`."""

    type: type[object]
    """Protocol or class of the service, which jobs pass to `context.port`."""
    opener: str
    """MODULE:FUNCTION of a `workers.ports.PortOpener`. It is called once per worker process, at startup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The Postgres tables that a kind defines."""

    module: str
    """Module that adds the tables to `db.tables.Base.metadata` when it is imported."""
    migrations: str
    """Package with the Alembic revisions. It is named `migrations` and lies next to the kind's module, so
    that it is found without loading the kind. Revisions are named after the kind, such as NAME_0001, and the
    first one has the kind's name as its branch label."""
    writer: str | None = None
    """MODULE:FUNCTION of a `db.outcomes.RecordWriter`. It writes `Result.records` in the transaction in which
    their jobs succeed."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input that batches of a kind are made from: a file, or rows in memory."""

    name: str
    """Name of the input, such as "rows" or "documents"."""
    help: str
    """Contents and formats of the input, for help texts."""
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A specification of how the inputs of a batch become its jobs."""

    reader: str
    """MODULE:FUNCTION of a `workers.intake.IntakeReader`, which turns records of the inputs into jobs."""
    inputs: tuple[Input, ...]
    """Inputs; at least one. Commands take the first one as their argument FILE."""
    options_type: type[BaseModel] | None = None
    """Type of a submission's options, if they differ from the kind's settings. The reader derives the
    settings of the batch from them."""


ROWS = Intake(
    reader="workers.intake:read_rows",
    inputs=(Input("rows", "Table with a row for each job: CSV, JSONL or Parquet, also .gz;"),),
)
"""Default intake of a kind: each row of one table is the payload of one job."""


@dataclass(frozen=True, slots=True)
class Background:
    """A service that a kind defines and that runs alongside long-running commands."""

    name: str
    """Name of the service in logs."""
    target: str
    """MODULE:FUNCTION of a `workers.background.BackgroundOpener`."""
    under: frozenset[str]
    """Commands that run the service: "beat" (including the beat within `up`), "up" alone, or "run" (while a
    batch of the kind is running)."""


class Kind(ABC, Generic[PayloadT]):
    """A kind of content. A kind must define `name`, `payload_type` and `run`; everything else has a default.

    A kind has no state, so any thread may call it. Parts such as the exporter are named as MODULE:ATTRIBUTE
    and loaded only where they are used, so that workers do not load the command line, and the command line
    does not load the code of workers.
    """

    name: ClassVar[str]
    """Name of the kind and of its entry point, unique among the installed kinds."""
    version: ClassVar[str] = "1"
    """Version of the kind. Increase it when the prompt or the output changes."""
    payload_type: type[PayloadT]
    settings_type: type[BaseModel] = NoSettings
    """Type of the settings that a batch may have for all its jobs, such as template and sampling. Unknown
    names are refused."""
    default_model: ClassVar[str | None] = None
    """Name of the model for batches that name none; None for a kind that uses no model."""
    intake: ClassVar[Intake | None] = ROWS
    """How inputs become jobs. By default, each row of a table becomes a job. None means that only the kind's
    own commands create its batches."""
    stages: ClassVar[tuple[Stage, ...]] = (Stage("run"),)
    ports: ClassVar[tuple[Port, ...]] = ()
    tables: ClassVar[Tables | None] = None
    exporter: ClassVar[str | None] = None
    """MODULE:FUNCTION of a `pressroom.export.Exporter`. If None, an export consists of the artifacts, a table
    and an index page."""
    describer: ClassVar[str | None] = None
    """MODULE:CLASS of a `pressroom.describers.Describer`, which describes the outcome of a batch and the
    result of a job. If None, `pressroom status` prints counts, and `pressroom show` prints attempts and
    provenance."""
    recurring: ClassVar[str | None] = None
    """MODULE:CLASS of a subclass of `workers.recurring.KindSchedules`, for a kind whose schedules do more
    than read inputs again. It creates the batch for a due time, and describes and removes schedules."""
    background: ClassVar[tuple[Background, ...]] = ()

    def warm(self) -> None:
        """Load what jobs would otherwise wait for, such as a drawing library. Workers call this at startup.

        Do not load it when the kind's module is imported, because every command imports that module.
        """

    def models(
        self,
        model: str,
        settings: BaseModel,  # noqa: ARG002
        stage: str,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Return the names of all models that the stage's jobs may use, given the batch's model and settings.

        The models determine the profile, which names the queue. A stage without models runs on workers
        without an engine.
        """
        return (model,) if model else ()

    def first_request(
        self,
        payload: PayloadT,  # noqa: ARG002
        settings: BaseModel,  # noqa: ARG002
    ) -> tuple[Prompt | RawPrompt, Sampling] | None:
        """Return the first request of a job to a language model, or None if it is not known in advance.

        At intake, the length of the request is compared with the model's context length.
        """
        return None

    def first_request_size(
        self,
        payload: PayloadT,  # noqa: ARG002
        settings: BaseModel,  # noqa: ARG002
    ) -> RequestSize | None:
        """Return an upper bound on the size of `first_request`, or None.

        A kind returns a bound only if the bound is quicker to compute than the request. Intake does not make
        the first request of a job whose bound fits into the model's context.
        """
        return None

    def prompt_prefix(self, payload: PayloadT) -> str:  # noqa: ARG002
        """Return a key shared by jobs whose prompts begin alike, so that they are sent together."""
        return ""

    @abstractmethod
    def run(self, payload: PayloadT, context: Context) -> Result:
        """Produce the result of one job. Raises PermanentError or TransientError."""

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, PayloadT]]:  # noqa: ARG002
        """Return the jobs of the next stage, which `stage` names, as pairs of custom_id and payload."""
        return ()
