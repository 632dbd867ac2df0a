"""Which reports a batch writes if it may not write all, and how many it leaves out."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from kinds.sentiment.payload import ReportPlan, SentimentSettings, WindowsOutput
from kinds.sentiment.report_plan import first_reports, num_left_out
from kinds.sentiment.series.time_windows import WindowSize


def wanted(entity: int, day: int, *, has_alert: bool = False) -> ReportPlan:
    return ReportPlan(
        entity=entity,
        entity_id=f"entity-{entity}",
        size=WindowSize.DAY,
        starts_at=datetime(2026, 3, day, tzinfo=UTC),
        name=f"2026-03-{day:02}",
        has_alert=has_alert,
        known_until=None,
    )


def settings(max_reports: int) -> SentimentSettings:
    return SentimentSettings(
        monitor_id=UUID(int=1), watchlist_sha256="0" * 64, num_entities=3, max_reports=max_reports
    )


def test_new_alerts_come_first_then_the_newest_windows_in_the_order_of_the_watch_list() -> None:
    alert = wanted(2, 3, has_alert=True)
    given = [wanted(1, 4), alert, wanted(0, 4), wanted(0, 5), wanted(2, 1)]

    assert first_reports(given, 9) == [alert, wanted(0, 5), wanted(0, 4), wanted(1, 4), wanted(2, 1)]
    assert first_reports(given, 2) == [alert, wanted(0, 5)]
    assert first_reports(given, 0) == []


def test_what_each_job_lists_at_most_is_enough_to_find_the_first_of_all() -> None:
    jobs = [[wanted(n, day, has_alert=(day + n) % 5 == 0) for day in range(1, 20)] for n in range(3)]
    listed = [one for job in jobs for one in first_reports(job, 7)]

    assert first_reports(listed, 7) == first_reports([one for job in jobs for one in job], 7)


def test_reports_that_are_left_out_are_counted_over_all_jobs() -> None:
    outputs = [
        WindowsOutput(reports=(wanted(0, 1), wanted(0, 2)), num_reports_wanted=40),
        WindowsOutput(reports=(), num_reports_wanted=0),
    ]

    assert num_left_out(outputs, settings(2)) == 38
    assert num_left_out(outputs, settings(40)) == 0
    assert num_left_out([], settings(0)) == 0
