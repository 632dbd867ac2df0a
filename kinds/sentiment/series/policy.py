"""How a monitor looks at its entities: windows, rules, and how many false alarms it may raise."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kinds.sentiment.series.window import AlertRule, WindowSize


class Policy(BaseModel):
    """Fixed for all entities of a monitor."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    windows: tuple[WindowSize, ...] = (WindowSize.DAY, WindowSize.WEEK)
    time_zone: str = "UTC"
    """Time zone that decides where a day begins, as an IANA name."""
    calendar: str | None = None
    """Of an exchange (trading_days.py): on days without a full session of it nothing is a silence."""
    rules: tuple[AlertRule, ...] = tuple(AlertRule)
    """They share the budget equally; none is a monitor without alerts."""
    alert_window: WindowSize = WindowSize.DAY
    """The windows that the rules judge; one of `windows`."""
    false_alarms_per_week: float = Field(default=0.5, gt=0, le=100)
    """The budget of the whole monitor: all its entities, all its rules."""
    cool_down_hours: float = Field(default=72.0, ge=0, le=10_000)
    """A rule that goes on firing is not told again: it must not have fired about the entity for this long,
    and for at least one window; 0 tells of each window."""
    min_relevance: int = Field(default=20, ge=0, le=100)
    """Mentions below it are kept, and not counted."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone: write an IANA name such as Europe/Berlin") from error
        return name

    @model_validator(mode="after")
    def _judged_windows_are_kept(self) -> Policy:
        if self.alert_window not in self.windows:
            raise ValueError(
                f"alert_window {self.alert_window.value!r} is not one of the windows: add it there"
            )
        return self
