"""What the jobs of each stage are given, and what a batch fixes for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from jobs.documents.document import Document
from jobs.sources import Source
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.window import WindowSize

ANALYSIS_VERSION = "4"
"""Rises when documents come to other mentions, windows or alerts: all are then analysed again. The kind's
version rises with it, and alone where only reports are written otherwise."""


MOODS = ("negative", "neutral", "positive")
"""The labels that a model must have which says what a text says of an entity."""

ReportsOf = Literal["latest", "all", "alerts", "none"]
"""Which windows a batch writes reports of: see `SentimentSettings.reports`."""


class CollectPayload(BaseModel):
    """Read one source of a monitor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["collect"] = "collect"
    source: Source


class DocumentsPayload(BaseModel):
    """Analyse a block of documents: given here, or stored as a resource by a job that collected them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["documents"] = "documents"
    documents: tuple[Document, ...] = ()
    block_sha256: str | None = None


class WindowsPayload(BaseModel):
    """Bring the series of some neighbouring entities of the watch list up to date."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["windows"] = "windows"
    start: int = Field(ge=0, le=2**31)
    stop: int = Field(ge=1, le=2**31)
    """Positions in the watch list, the second excluded."""
    since: Mapping[int, AwareDatetime] = Field(default_factory=dict)
    """By position: the earliest document of this batch that came, changed or went, or the end of the windows
    that were judged with all sources read, if that is earlier."""
    as_of: AwareDatetime | None
    """Windows are judged up to here, or as far as they were before; None, for a file: to the end of what is
    known."""
    heard_until: AwareDatetime | None = None
    """Windows that end later than here, or than a run that read all sources was due, say nothing of silence;
    None: this one read all that there are."""


class ReportPayload(BaseModel):
    """Write the report of one entity in one window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Literal["reports"] = "reports"
    entity: int = Field(ge=0, le=2**31)
    """Position in the watch list."""
    size: WindowSize
    starts_at: AwareDatetime
    known_until: AwareDatetime | None = None
    """A window that ends later is not over: when the run was due, or the last document that was read. Nobody
    knows of a file whether its last day is. None: the window is over."""


AnyPayload = CollectPayload | DocumentsPayload | WindowsPayload | ReportPayload


class SentimentPayload(RootModel[Annotated[AnyPayload, Field(discriminator="stage")]]):
    """The payload of a job of any stage."""


class SentimentSettings(BaseModel):
    """What a batch fixes for all its jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    monitor_id: UUID
    """Whose history the documents become part of."""
    watchlist_sha256: str
    """Of the resource that holds the watch list as JSON."""
    num_entities: int = Field(ge=1, le=2**31)
    policy: Policy = Policy()
    as_of: AwareDatetime | None = None
    """When a monitor was due: windows are judged up to here. None, for a file: to the end of the window that
    the last document is in, or, if the monitor has sources, as far as their runs have come."""
    heard_until: AwareDatetime | None = None
    """When the latest run was due that read all sources; None if the monitor has none."""
    analysis: str = ""
    """Digest of what an analysis depends on besides the document: such a document is not looked at again."""
    embedder: str | None = None
    """Tells the documents of a topic by their meaning; None finds topics by their aliases alone."""
    summarizer: str | None = None
    """Language model of the summaries; None says the facts in plain sentences."""
    reports: ReportsOf = "latest"
    """`alerts`: a report for each window with a new alert. `latest`: and for each entity's latest window with
    documents. `all`: and for each window of the judged size with documents that this batch has computed and
    whose figures, those of its past among them, are not what stood before. So a window is not written about
    again where only a text was corrected, nor where an earlier batch has computed it and was cancelled before
    its reports, or left this one out by `max_reports`."""
    max_reports: int = Field(default=500, ge=0, le=1_000_000)
    """In one batch; a first run over years of documents would write thousands about the past. New alerts
    first, then the newest windows; what is left out is counted, see wanted.num_left_out."""
