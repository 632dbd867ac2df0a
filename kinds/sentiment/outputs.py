"""What the jobs of each stage leave for the next one, and for the export."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AwareDatetime, BaseModel, ConfigDict

from jobs.rows import Refusal
from kinds.sentiment.series.window import WindowSize


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectOutput(_Output):
    """What a source held that was not analysed before."""

    blocks: tuple[str, ...]
    """Digests of the resources that hold the documents."""


class DocumentsOutput(_Output):
    """What the documents of a block change."""

    since: Mapping[int, AwareDatetime]
    """By the entity's position in the watch list: the earliest document that came, changed or went."""
    until: AwareDatetime
    """When the latest document was published."""
    num_flagged: Mapping[str, int]
    """Documents by flag."""
    refused: Mapping[str, Refusal]
    """By id: the documents that could not be analysed."""


class WantedReport(_Output):
    """A report to be written."""

    entity: int
    """Position in the watch list."""
    entity_id: str
    size: WindowSize
    starts_at: AwareDatetime
    name: str
    """Of the window, for files."""
    has_alert: bool
    """A new one."""
    known_until: AwareDatetime | None
    """A window that ends later is not over."""


class WindowsOutput(_Output):
    """Which windows of some entities are to be written about."""

    reports: tuple[WantedReport, ...]
    """The first of them, as many as the batch may write."""
    num_reports_wanted: int
    """All of them."""
