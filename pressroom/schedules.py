"""Describes schedules of any kind: one line for lists, one page for people, and one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from db import schedules
from db.schedules import Schedule, ScheduleRun, Timing
from jobs.errors import ConfigurationError
from jobs.shown import minute_text, utc_text
from pressroom.console import print_line
from pressroom.show import print_labelled
from workers.recurring import ScheduleDescription, schedules_of

NUM_RUNS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """A schedule, the outcomes of its latest due times, and what its kind adds to them."""

    schedule: Schedule
    runs: Sequence[ScheduleRun]
    """Outcomes of the latest due times, the newest first."""
    description: ScheduleDescription

    @property
    def times(self) -> str:
        """Return when the schedule starts, as text for people."""
        timing = self.schedule.timing
        if timing is None:
            return "on demand only"
        when = f"{timing.cron.expression} {timing.cron.time_zone}"
        if timing.paused_at is not None:
            return f"{when} (paused)"
        return when if timing.next_due_at is None else f"{when}, next {minute_text(timing.next_due_at)}"

    def print_line(self) -> None:
        """Print the schedule as one line of a list."""
        last = f"; last {minute_text(self.runs[0].due_at)} {self.runs[0].outcome.value}" if self.runs else ""
        remark = f"; {self.description.remark}" if self.description.remark else ""
        print_line(f"{self.schedule.name:<24}  {self.schedule.kind:<20}  {self.times}{last}{remark}")

    def print_page(self, noun: str) -> None:
        """Print everything about the schedule; `noun` is the word for such a schedule."""
        schedule = self.schedule
        print_labelled(noun, f"{schedule.name} of kind {schedule.kind}, tenant {schedule.tenant}")
        print_labelled("runs", self.times)
        if schedule.model:
            print_labelled("model", schedule.model)
        for label, text in self.description.lines:
            print_labelled(label, text)
        for run in self.runs:
            outcome = run.outcome.value + (f", batch {run.batch_id}" if run.batch_id else "")
            reason = f": {run.error_code or ''} {run.error_message}" if run.error_message else ""
            print_labelled("due", f"{minute_text(run.due_at)}  {outcome}{reason}")

    def as_json(self) -> dict[str, object]:
        """Return the schedule as JSON; docs/kinds.md documents the names, which are stable."""
        schedule = self.schedule
        return {
            "name": schedule.name,
            "id": str(schedule.id),
            "kind": schedule.kind,
            "tenant": schedule.tenant,
            "model": schedule.model,
            "settings": dict(schedule.settings),
            "input": None if schedule.input is None else dict(schedule.input),
            **_times_json(schedule.timing),
            **self.description.fields,
            "runs": [_run_json(run) for run in self.runs],
        }


def state_of(database: Engine, schedule: Schedule, *, num_runs: int = NUM_RUNS_SHOWN) -> ScheduleState:
    """Read the state of a schedule; if its kind cannot be used here, the description gives the reason."""
    try:
        description = schedules_of(schedule.kind).describe(database, schedule)
    except ConfigurationError as error:
        description = ScheduleDescription(remark="cannot run", lines=[("error", f"{error.code}: {error}")])
    return ScheduleState(schedule, schedules.list_runs(database, schedule.id, limit=num_runs), description)


def _times_json(timing: Timing | None) -> dict[str, object]:
    """Return when a schedule starts; for one that runs on demand only, every value is null."""
    if timing is None:
        return dict.fromkeys(("cron", "time_zone", "catch_up", "paused_at", "next_due_at"))
    return {
        "cron": timing.cron.expression,
        "time_zone": timing.cron.time_zone,
        "catch_up": timing.catch_up.value,
        "paused_at": utc_text(timing.paused_at),
        "next_due_at": utc_text(timing.next_due_at),
    }


def _run_json(run: ScheduleRun) -> dict[str, object]:
    is_failed = run.error_code is not None
    return {
        "due_at": utc_text(run.due_at),
        "outcome": run.outcome.value,
        "batch_id": None if run.batch_id is None else str(run.batch_id),
        "error": {"code": run.error_code, "message": run.error_message} if is_failed else None,
    }
