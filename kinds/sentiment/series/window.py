"""Windows of time, and what an entity's documents in one come to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SCORE_UNIT = 1e-9
"""Scores are rounded to it: a thousandth of what a probability's last printed digit says."""


class WindowSize(StrEnum):
    """How long a window is. Days and weeks (from Monday) are those of the monitor's time zone."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSums:
    """What later windows and alerts need of one: sums of first reports, as integers, and so exact."""

    starts_at: datetime
    """UTC."""
    num_documents: int
    num_followups: int
    """Documents that say again what an earlier one said: counted here and nowhere else."""
    num_positive: int
    num_neutral: int
    num_negative: int
    """By the most likely class."""
    weight: int
    """Relevance, at least 1 a document."""
    weight_squared: int
    weighted_score: int
    """Weight times score, in units of SCORE_UNIT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityWindow(WindowSums):
    """One entity in one window."""

    entity_id: str
    size: WindowSize
    mean_score: float | None
    """Weighted by relevance; None in a window without documents."""
    negative_share: float | None
    negative_low: float | None
    negative_high: float | None
    """Wilson interval of the share, 95%."""
    trend: float | None
    """Slope of the score a window, over the windows before and with this one; see aggregate.py."""
    baseline_score: float | None
    """The entity's own past: weighted mean score of the windows before."""
    baseline_volume: float | None
    """Documents a window in that past."""
    change: float | None
    """mean_score - baseline_score."""


class AlertRule(StrEnum):
    """What an alert says has happened."""

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
    """Of the window at whose end it fired; UTC."""
    statistic: float
    p_value: float
    threshold: float
    """p_value fell below it: the budget's share of this test."""
    observed: float
    expected: float
    """What the test compared: a share, a score or a number of documents, by rule."""
    document_ids: tuple[str, ...]
    """The documents that drive it, the strongest first; for a silence, the last ones before."""

    @property
    def key(self) -> str:
        """Unique in a monitor: "acme-steel/surge/day/2026-03-02T00:00:00Z"."""
        return f"{self.entity_id}/{self.rule}/{self.size}/{self.starts_at:%Y-%m-%dT%H:%M:%SZ}"
