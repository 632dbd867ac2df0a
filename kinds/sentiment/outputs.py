"""Outputs of the jobs of each stage, for the next stage and for the export."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AwareDatetime, BaseModel, ConfigDict

from jobs.rejection import Refusal
from kinds.sentiment.series.time_windows import WindowSize


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectOutput(_Output):
    """The documents of a source that were not analysed before."""

    blocks: tuple[str, ...]
    """Digests of the resources that contain the documents."""


class DocumentsOutput(_Output):
    """The changes caused by the documents of a block."""

    since: Mapping[int, AwareDatetime]
    """Earliest document that was added, changed or removed, by the entity's position in the watch list."""
    until: AwareDatetime
    """Time of publication of the latest document."""
    num_flagged: Mapping[str, int]
    """Number of documents by flag."""
    refused: Mapping[str, Refusal]
    """Refusals by id of the documents that could not be analysed."""


class WantedReport(_Output):
    """A report to be written."""

    entity: int
    """Position in the watch list."""
    entity_id: str
    size: WindowSize
    starts_at: AwareDatetime
    name: str
    """Name of the window, for files."""
    has_alert: bool
    """Whether the window has a new alert."""
    known_until: AwareDatetime | None
    """Windows that end later are unfinished."""


class WindowsOutput(_Output):
    """Reports to be written about some entities."""

    reports: tuple[WantedReport, ...]
    """The first of the reports, as many as the batch may write."""
    num_reports_wanted: int
    """Number of all reports, including those left out."""
