"""Windows of time, and what they aggregate of an entity's documents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SCORE_UNIT = 1e-9
"""Unit to which scores are rounded: a thousandth of the last digit that is printed of a probability."""


class WindowSize(StrEnum):
    """Length of a window. Days and weeks (from Monday) are those of the monitor's time zone."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSums:
    """Sums over the first reports in a window, as exact integers: the basis of later windows and alerts."""

    starts_at: datetime
    """UTC."""
    num_documents: int
    num_followups: int
    """Documents that repeat an earlier one, which are counted here and nowhere else."""
    num_positive: int
    num_neutral: int
    num_negative: int
    """Documents by their most likely class."""
    weight: int
    """Sum of the documents' relevance, at least 1 for each."""
    weight_squared: int
    weighted_score: int
    """Sum of weight times score, in units of SCORE_UNIT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityWindow(WindowSums):
    """One entity in one window."""

    entity_id: str
    size: WindowSize
    mean_score: float | None
    """Mean score weighted by relevance; None in a window without documents."""
    negative_share: float | None
    negative_low: float | None
    negative_high: float | None
    """Bounds of the 95% Wilson interval of negative_share."""
    trend: float | None
    """Slope of the score per window over the last windows, including this one; see aggregate.py."""
    baseline_score: float | None
    """Weighted mean score of the windows before: the entity's own past."""
    baseline_volume: float | None
    """Documents per window in that past."""
    change: float | None
    """mean_score - baseline_score."""


class AlertRule(StrEnum):
    """The kind of change that an alert reports."""

    SURGE = "surge"
    """More negative documents than the entity's past explains."""
    SLIDE = "slide"
    """The mood has been getting worse, slowly."""
    SILENCE = "silence"
    """Far fewer documents than usual."""
    REVERSAL = "reversal"
    """The mood has turned to the other side of its past."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule that fired for one entity at the end of one window."""

    entity_id: str
    rule: AlertRule
    size: WindowSize
    starts_at: datetime
    """Start of the window at whose end the rule fired; UTC."""
    statistic: float
    p_value: float
    threshold: float
    """The test's share of the budget; the alert was raised because p_value fell below it."""
    observed: float
    expected: float
    """What the test compared: scores or numbers of documents, depending on the rule."""
    document_ids: tuple[str, ...]
    """Documents that contribute most, the strongest first; for a silence, the last ones before it."""

    @property
    def key(self) -> str:
        """Key of the alert, unique in a monitor: "acme-steel/surge/day/2026-03-02T00:00:00Z"."""
        return f"{self.entity_id}/{self.rule}/{self.size}/{self.starts_at:%Y-%m-%dT%H:%M:%SZ}"
