"""The demo: runs months of invented news through a monitor and scores its alerts, over several seeds.

    python -m examples.sentiment.demo --out DIR [--seeds 3]

writes the page and the reports of the first feed to DIR. Every feed is replayed day by day, and the alerts
are scored against the turns that were planted in the feed, which no detector has seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from uuid import UUID

import typer

from db.reports import batch_status
from examples.sentiment.feed import EVENTS, FEED, WATCHLIST, write_feed
from jobs.batch import BatchStatus
from jobs.errors import PressroomError
from kinds.sentiment import intake
from kinds.sentiment.backtest import Backtest, backtest, read_events
from kinds.sentiment.documents.watchlist_file import read_watchlist
from kinds.sentiment.export import export_sentiment
from kinds.sentiment.monitor import KIND
from kinds.sentiment.options import NONE
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.store.monitors import find_monitor
from pressroom.console import Interruption, errors_reported, say
from pressroom.export import INDEX, check_output
from pressroom.one_machine import OneMachine
from pressroom.run import REJECTED, rejected_lines
from pressroom.summary import Summary
from pressroom.watch import watch_batch
from storage import open_store
from workers.devices import parse_devices
from workers.intake import BatchRequest
from workers.producer import submit
from workers.settings import DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL, Settings, read_settings

FEEDS = "feeds"
SCORES = "backtests.json"


class DemoFailedError(PressroomError):
    """A batch of the demo did not finish, or some of its jobs failed."""

    code = "demo_failed"


def main(out: Path = Path("out-sentiment"), seeds: int = 3) -> None:
    """Months of invented news through a monitor, scored."""
    with errors_reported():
        run_demo(out, range(1, seeds + 1), read_settings())


def run_demo(out: Path, seeds: Sequence[int], settings: Settings) -> None:
    """Run the first feed including its reports, replay all feeds, and print the scores."""
    check_output(out)
    folders = {seed: out / FEEDS / f"seed-{seed}" for seed in seeds}
    for seed, folder in folders.items():
        num_rows, events = write_feed(seed, folder)
        say(f"Feed {seed}: {num_rows} documents, {len(events)} planted turns")
    profile = settings.profile_of((DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL))
    results = {}
    with (
        Interruption() as interruption,
        OneMachine(settings, tuple(parse_devices("auto")), profiles=(profile,), say=say) as machine,
    ):
        demo = _Demo(machine, settings, interruption)
        for number, (seed, folder) in enumerate(folders.items()):
            say(f"Feed {seed}" + (": the whole path, to its reports" if number == 0 else ": replayed"))
            demo.run(folder, out, f"demo-{seed}", with_reports=number == 0)
            monitor = find_monitor(machine.database, f"demo-{seed}")
            planted = read_events(folder / EVENTS, read_watchlist(folder / WATCHLIST).watchlist)
            results[seed] = backtest(machine.database, monitor, planted)
    (out / SCORES).write_text(
        json.dumps({str(seed): result.as_json() for seed, result in results.items()}, indent=2) + "\n"
    )
    for line in score_lines(results):
        print(line)
    print(f"reports: {out / INDEX}")


class _Demo:
    """Runs feeds with the workers of one machine."""

    def __init__(self, machine: OneMachine, settings: Settings, interruption: Interruption) -> None:
        self._machine = machine
        self._settings = settings
        self._interruption = interruption

    def run(self, folder: Path, out: Path, name: str, *, with_reports: bool) -> None:
        """Run a feed through a monitor of this name; if requested, write reports into `out`."""
        machine, begun_at = self._machine, time.monotonic()
        request = BatchRequest(
            kind=KIND,
            model=DEFAULT_CLASSIFIER,
            settings={
                "monitor": name,
                "summarizer": DEFAULT_MODEL if with_reports else NONE,
                "reports": "latest" if with_reports else "none",
            },
            stages=intake.FILE_STAGES if with_reports else intake.FILE_STAGES[:1],
        )
        inputs = {intake.DOCUMENTS: folder / FEED, intake.WATCHLIST: folder / WATCHLIST}
        with rejected_lines((out if with_reports else folder) / REJECTED) as on_rejected:
            submission = submit(
                machine.database,
                inputs,
                request,
                self._settings,
                on_rejected,
                on_note=say,
                s3_url=machine.urls.s3_url,
            )
        self._watch(submission.batch_id)
        if with_reports:
            seconds = time.monotonic() - begun_at
            report = batch_status(machine.database, submission.batch_id)
            summary = Summary(report=report, elapsed_seconds=seconds, startup_seconds=0)
            export_sentiment(machine.database, open_store(machine.urls.s3_url), summary, out)

    def _watch(self, batch_id: UUID) -> None:
        machine = self._machine
        report = watch_batch(machine.database, batch_id, self._interruption, check=machine.check)
        if report is None or self._interruption.count:
            raise KeyboardInterrupt
        if report.counts.failed or report.status is not BatchStatus.FINISHED:
            raise DemoFailedError(
                f"batch {batch_id}: {report.counts.failed} jobs failed: {report.top_errors}"
            )


def score_lines(results: Mapping[int, Backtest]) -> Iterator[str]:
    """Yield lines about caught turns, delays and false alerts, by feed and then by rule."""
    scores = {seed: result.score for seed, result in results.items() if result.score is not None}
    for seed, found in scores.items():
        delay = "" if found.median_delay_days is None else f", {found.median_delay_days:.1f} days late"
        yield (
            f"feed {seed}: {found.num_caught} of {found.num_events} turns caught by their own rule{delay} "
            f"(median), {found.recall_any or 0:.0%} by any; {found.num_false} of {found.num_alerts} alerts "
            f"false, {found.false_alarms_per_week or 0:.2f} a week"
        )
    for rule in AlertRule:
        own = [found.by_rule[rule] for found in scores.values()]
        delays = [
            outcome.delay_days
            for found in scores.values()
            for outcome in found.outcomes
            if outcome.event.kind is rule and outcome.delay_days is not None
        ]
        late = "" if not delays else f", median {median(delays):.1f} days late"
        yield (
            f"  {rule.value:<8} {sum(each.num_caught for each in own)} of "
            f"{sum(each.num_events for each in own)} caught{late}; {sum(each.num_false for each in own)} of "
            f"{sum(each.num_alerts for each in own)} alerts false"
        )


if __name__ == "__main__":
    typer.run(main)
