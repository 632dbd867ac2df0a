"""The policy of a monitor (its windows, rules and budget of false alarms), and the alerts of its rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kinds.sentiment.series.time_windows import WindowSize


class AlertRule(StrEnum):
    """The kind of change that an alert reports."""

    SURGE = "surge"
    """More negative documents than the entity's past explains."""
    SLIDE = "slide"
    """The mood has slowly been getting worse."""
    SILENCE = "silence"
    """Far fewer documents than usual."""
    REVERSAL = "reversal"
    """The mood has turned from positive to negative or the reverse."""


class Policy(BaseModel):
    """The windows, rules and budget that apply to all entities of a monitor."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    windows: tuple[WindowSize, ...] = (WindowSize.DAY, WindowSize.WEEK)
    time_zone: str = "UTC"
    """Time zone that determines when a day begins, as an IANA name."""
    calendar: str | None = None
    """Calendar of an exchange (trading_days.py): days without a full session raise no silence alert."""
    rules: tuple[AlertRule, ...] = tuple(AlertRule)
    """Rules that share the budget equally; with none, the monitor raises no alerts."""
    alert_window: WindowSize = WindowSize.DAY
    """Size of the windows that the rules judge; it must be one of `windows`."""
    false_alarms_per_week: float = Field(default=0.5, gt=0, le=100)
    """Budget of the whole monitor, over all entities and rules."""
    cool_down_hours: float = Field(default=72.0, ge=0, le=10_000)
    """Hours (and at least one window) for which a rule must not have fired for an entity before it raises
    another alert. With 0, every window in which a rule fires raises an alert."""
    min_relevance: int = Field(default=20, ge=0, le=100)
    """Mentions with a lower relevance are stored but not counted."""

    @field_validator("time_zone")
    @classmethod
    def _is_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"{name!r} is not a time zone: use an IANA name such as Europe/Berlin"
            ) from error
        return name

    @model_validator(mode="after")
    def _judged_windows_are_kept(self) -> Policy:
        if self.alert_window not in self.windows:
            raise ValueError(
                f"alert_window {self.alert_window.value!r} is not one of the windows: add it to windows"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert, raised because one rule fired for one entity at the end of one window."""

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
    """Value expected by the test; like `observed`, a score or a number of documents."""
    document_ids: tuple[str, ...]
    """Documents that contribute most, the strongest first; for a silence, the latest ones, newest first."""

    @property
    def key(self) -> str:
        """Key of the alert, unique in a monitor: "acme-steel/surge/day/2026-03-02T00:00:00Z"."""
        return f"{self.entity_id}/{self.rule}/{self.size}/{self.starts_at:%Y-%m-%dT%H:%M:%SZ}"
