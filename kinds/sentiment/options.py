"""Options of a submission of documents, from which the intake derives the settings of the batch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jobs.instants import DateOrder
from jobs.intake.columns import FieldColumns
from kinds.sentiment.payload import ReportsOf
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.series.time_windows import WindowSize
from workers.settings import DEFAULT_EMBEDDER, DEFAULT_MODEL

NONE = "none"
"""Value that users give instead of a model's name to use no model."""


def _words(value: object) -> object:
    """Split a text such as "day,week", which is how the option --set passes a list."""
    return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value


class SentimentOptions(BaseModel):
    """Options of one file of documents; None keeps the value of the monitor, or its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    monitor: str | None = Field(
        default=None,
        description="monitor to whose history the documents are added; by default, it has the watch list's "
        "name",
    )
    windows: Annotated[tuple[WindowSize, ...] | None, BeforeValidator(_words)] = Field(
        default=None, description="window sizes; the rules apply to the first one"
    )
    time_zone: str | None = Field(default=None, description="time zone of days and weeks")
    rules: Annotated[tuple[AlertRule, ...] | None, BeforeValidator(_words)] = Field(
        default=None, description="alert rules"
    )
    false_alarms_per_week: float | None = Field(
        default=None, gt=0, le=100, description="budget of false alarms per week for the whole monitor"
    )
    embedder: str = Field(
        default=DEFAULT_EMBEDDER, description="embedding model that finds topics by meaning, or none"
    )
    summarizer: str = Field(
        default=DEFAULT_MODEL, description="language model that writes summaries, or none"
    )
    reports: ReportsOf | None = Field(default=None, description="which windows get a report")
    max_reports: int | None = Field(default=None, ge=0, le=1_000_000, description="maximum number of reports")
    columns: FieldColumns = Field(
        default={}, description="columns of the fields: FIELD=COLUMN, separated by commas"
    )
    date_order: DateOrder | None = Field(
        default=None, description="order of day and month in dates such as 12/1/2026"
    )

    @property
    def has_policy(self) -> bool:
        """Whether any option would change the policy of the monitor."""
        policy = (self.windows, self.time_zone, self.rules, self.false_alarms_per_week)
        return any(value is not None for value in policy)

    @property
    def own_settings(self) -> dict[str, object]:
        """Settings of the kind that override those of the monitor."""
        limits = {"reports": self.reports, "max_reports": self.max_reports}
        return {
            "embedder": None if self.embedder == NONE else self.embedder,
            "summarizer": None if self.summarizer == NONE else self.summarizer,
            **{name: value for name, value in limits.items() if value is not None},
        }
