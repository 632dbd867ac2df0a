"""Prints recommenders for the commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.schedules import ScheduleRun, Timing
from kinds.recommendation.recommender import Recommender, Release
from pressroom.console import print_line


@dataclass(frozen=True, slots=True)
class RecommenderState:
    """A recommender with its schedule, its runs and its releases."""

    recommender: Recommender
    timing: Timing | None
    runs: Sequence[ScheduleRun]
    releases: Sequence[Release]

    def as_json(self) -> dict[str, object]:
        """Return the state under stable names; see docs/recommendations.md."""
        recommender, timing = self.recommender, self.timing
        return {
            "name": recommender.name,
            "model": recommender.model,
            "sources": None if recommender.sources is None else recommender.sources.model_dump(),
            "settings": recommender.settings,
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
                    "stands": release.id == recommender.published_release_id,
                    "batch_id": str(release.batch_id),
                    "manifest_sha256": release.manifest_sha256,
                    "figures": dict(release.figures),
                }
                for release in self.releases
            ],
        }


def print_recommender(state: RecommenderState) -> None:
    """Print everything about a recommender."""
    print_recommender_line(state)
    if state.recommender.sources is not None:
        print_line(f"  catalogue     {state.recommender.sources.catalogue}")
        print_line(f"  interactions  {state.recommender.sources.interactions}")
    for run in state.runs:
        said = f": {run.error_message}" if run.error_message else ""
        print_line(f"  due {run.due_at:%Y-%m-%d %H:%M}Z  {run.outcome.value}{said}")
    for release in state.releases:
        mark = "*" if release.id == state.recommender.published_release_id else " "
        figures = release.figures
        print_line(
            f"{mark} release {release.number}  {release.made_at:%Y-%m-%d %H:%M}Z  {figures.get('num_users')} "
            f"users, {figures.get('num_texts_written')} texts written, "
            f"{figures.get('num_texts_carried')} carried over"
        )


def print_recommender_line(state: RecommenderState) -> None:
    """Print a recommender as one line of a list."""
    timing = state.timing
    when = "when told to"
    if timing is not None:
        when = f"{timing.cron.expression} {timing.cron.time_zone}{' (paused)' if timing.paused_at else ''}"
    standing = [one for one in state.releases if one.id == state.recommender.published_release_id]
    stands = f"release {standing[0].number}" if standing else "no release"
    print_line(f"{state.recommender.name:<24}  {when:<24}  {stands}  {state.recommender.model or 'no texts'}")
