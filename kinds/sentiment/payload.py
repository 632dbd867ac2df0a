"""Payloads and outputs of the jobs of each stage, and the settings that a batch fixes for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from jobs.documents.document import Document
from jobs.rejection import Refusal
from jobs.sources import Source
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.time_windows import WindowSize

ANALYSIS_VERSION = "4"
"""Version of the analysis. Raise it, together with the kind's version, when documents lead to different
mentions, windows or alerts, so that all documents are analysed again. If only reports change, raise the
kind's version alone."""


MOODS = ("negative", "neutral", "positive")
"""Labels that a classifier must have to determine the mood towards an entity."""

ReportsOf = Literal["latest", "all", "alerts", "none"]
"""Windows that a batch writes reports about; see `SentimentSettings.reports`."""


class CollectPayload(BaseModel):
    """The payload of a job that reads one source of a monitor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["collect"] = "collect"
    source: Source


class DocumentsPayload(BaseModel):
    """The payload of a job that analyses a block of documents.

    The documents are in the payload, or in a resource that a `collect` job has stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["documents"] = "documents"
    documents: tuple[Document, ...] = ()
    block_sha256: str | None = None


class WindowsPayload(BaseModel):
    """The payload of a job that updates the series of consecutive entities of the watch list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["windows"] = "windows"
    start: int = Field(ge=0, le=2**31)
    stop: int = Field(ge=1, le=2**31)
    """Range of positions in the watch list; `stop` is excluded."""
    since: Mapping[int, AwareDatetime] = Field(default_factory=dict)
    """By position, the earlier of two instants, if known: the time of the earliest document that this batch
    added, changed or removed and, if this run has read all sources, the time when the last run that had done
    so was due."""
    as_of: AwareDatetime | None
    """Windows are judged up to this instant, or up to a later one if earlier batches reached it. None for a
    file, whose windows are judged up to the end of the known documents."""
    observed_until: AwareDatetime | None = None
    """Windows that end after this instant, and after the due time of every run that read all sources, raise
    no silence alert. None if this run has read all sources."""


class ReportPayload(BaseModel):
    """The payload of a job that writes the report of one entity in one window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["reports"] = "reports"
    entity: int = Field(ge=0, le=2**31)
    """Position in the watch list."""
    size: WindowSize
    starts_at: AwareDatetime
    known_until: AwareDatetime | None = None
    """Instant up to which the window is known: when the run was due, or the time of the last document read.
    A window that ends later is unfinished. The last window of a file is, too, because the file does not show
    whether its last day is over. None if the window is over."""


AnyPayload = CollectPayload | DocumentsPayload | WindowsPayload | ReportPayload


class SentimentPayload(RootModel[Annotated[AnyPayload, Field(discriminator="stage")]]):
    """The payload of a job of any stage."""


class SentimentSettings(BaseModel):
    """Settings that a batch fixes for all its jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    monitor_id: UUID
    """The monitor whose history the documents are added to."""
    watchlist_sha256: str
    """Digest of the resource that holds the watch list as JSON."""
    num_entities: int = Field(ge=1, le=2**31)
    policy: Policy = Policy()
    as_of: AwareDatetime | None = None
    """When a monitor's run was due; windows are judged up to this instant. None for a file: its windows are
    judged up to the end of the last document's window or, if the monitor has sources, up to the instant that
    its runs have reached."""
    observed_until: AwareDatetime | None = None
    """When the latest run that read all sources was due; None if the monitor has no sources."""
    analysis: str = ""
    """Digest of everything besides the document that an analysis depends on. A document that was analysed
    under the same digest is not analysed again."""
    embedder: str | None = None
    """Embedding model that finds topics by meaning; None if they are found by their aliases alone."""
    summarizer: str | None = None
    """Language model that writes the summaries; None if sentences are built from fixed rules."""
    reports: ReportsOf = "latest"
    """Windows that get a report. `none`: no window. `alerts`: each window with a new alert. `latest`: also
    each entity's latest window that contains documents. `all`: also every window that contains documents and
    has the size used for alerts, if this batch has computed it and its figures, including those of its past,
    differ from the stored ones. A window is therefore not reported again if only a text was corrected. Nor is
    it reported if an earlier batch computed it but was cancelled before writing the report, or omitted the
    report because of `max_reports`."""
    max_reports: int = Field(default=500, ge=0, le=1_000_000)
    """Maximum number of reports of a batch. Without it, a first run over years of documents would write
    thousands of reports about the past. Windows with new alerts come first, then the newest windows;
    report_plan.num_left_out counts the reports left out."""


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectOutput(_Output):
    """The documents of a source that were not analysed before."""

    blocks: tuple[str, ...]
    """Digests of the resources that contain the documents."""


class DocumentsOutput(_Output):
    """The changes caused by the documents of a block."""

    since: Mapping[int, AwareDatetime]
    """Time of the earliest document added, changed or removed, by the entity's position in the watch list."""
    until: AwareDatetime
    """Time of publication of the latest document."""
    num_flagged: Mapping[str, int]
    """Number of documents by flag."""
    refused: Mapping[str, Refusal]
    """Refusals by id of the documents that could not be analysed."""


class ReportPlan(_Output):
    """A report to be written."""

    entity: int
    """Position in the watch list."""
    entity_id: str
    size: WindowSize
    starts_at: AwareDatetime
    name: str
    """Name of the window in file names."""
    has_alert: bool
    """Whether the window has a new alert."""
    known_until: AwareDatetime | None
    """Instant up to which the window is known, see ReportPayload.known_until."""


class WindowsOutput(_Output):
    """Reports to be written about some entities."""

    reports: tuple[ReportPlan, ...]
    """The first reports to be written, at most `SentimentSettings.max_reports`."""
    num_reports_wanted: int
    """Number of all reports that were wanted, including those left out."""
