"""Prints refreshes for the commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.schedules import ScheduleRun, Timing
from kinds.recommendation.refresh import Refresh, Release
from pressroom.console import print_line


@dataclass(frozen=True, slots=True)
class RefreshState:
    """A refresh with its schedule, its runs and its releases."""

    refresh: Refresh
    timing: Timing | None
    runs: Sequence[ScheduleRun]
    releases: Sequence[Release]

    def as_json(self) -> dict[str, object]:
        """Return the state under stable names; see docs/recommendations.md."""
        refresh, timing = self.refresh, self.timing
        return {
            "name": refresh.name,
            "model": refresh.model,
            "sources": None if refresh.sources is None else refresh.sources.model_dump(),
            "settings": refresh.settings,
            "schedule": None
            if timing is None
            else {
                "cron": timing.cron.expression,
                "time_zone": timing.cron.time_zone,
                "paused": timing.paused_at is not None,
            },
            "runs": [
                {"due_at": run.due_at.isoformat(), "outcome": run.outcome.value, "error": run.error_message}
                for run in self.runs
            ],
            "releases": [
                {
                    "number": release.number,
                    "made_at": release.made_at.isoformat(),
                    "published_at": release.published_at.isoformat() if release.published_at else None,
                    "stands": release.id == refresh.published_release_id,
                    "batch_id": str(release.batch_id),
                    "manifest_sha256": release.manifest_sha256,
                    "figures": dict(release.figures),
                }
                for release in self.releases
            ],
        }


def print_refresh(state: RefreshState) -> None:
    """Print everything about a refresh."""
    print_refresh_line(state)
    if state.refresh.sources is not None:
        print_line(f"  catalogue     {state.refresh.sources.catalogue}")
        print_line(f"  interactions  {state.refresh.sources.interactions}")
    for run in state.runs:
        said = f": {run.error_message}" if run.error_message else ""
        print_line(f"  due {run.due_at:%Y-%m-%d %H:%M}Z  {run.outcome.value}{said}")
    for release in state.releases:
        mark = "*" if release.id == state.refresh.published_release_id else " "
        figures = release.figures
        print_line(
            f"{mark} release {release.number}  {release.made_at:%Y-%m-%d %H:%M}Z  {figures.get('num_users')} "
            f"users, {figures.get('num_texts_written')} texts written, "
            f"{figures.get('num_texts_carried')} carried over"
        )


def print_refresh_line(state: RefreshState) -> None:
    """Print a refresh as one line of a list."""
    timing = state.timing
    when = "when told to"
    if timing is not None:
        when = f"{timing.cron.expression} {timing.cron.time_zone}{' (paused)' if timing.paused_at else ''}"
    standing = [one for one in state.releases if one.id == state.refresh.published_release_id]
    stands = f"release {standing[0].number}" if standing else "no release"
    print_line(f"{state.refresh.name:<24}  {when:<24}  {stands}  {state.refresh.model or 'no texts'}")
