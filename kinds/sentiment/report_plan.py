"""Selects the windows that a batch writes reports about, and orders them, because their number is limited."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobs.kind import Context
from kinds.sentiment.documents.watchlist import Entity
from kinds.sentiment.history import EntityHistory, History
from kinds.sentiment.payload import ReportPlan, SentimentSettings, WindowsOutput
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize

FAR = timedelta(days=7)
"""Time from now up to which alerts are looked up. No window begins later, because documents dated more than a
day in the future are refused."""


def plan_reports(
    position: int,
    entity: Entity,
    history: EntityHistory,
    known_until: datetime | None,
    settings: SentimentSettings,
    context: Context,
) -> list[ReportPlan]:
    """Return the reports to be written about an entity according to `settings.reports`.

    Windows with new alerts are included unless the setting is `none`.
    """
    if settings.reports == "none":
        return []
    policy = settings.policy
    starts = dict.fromkeys(_new_alerts(history, settings, context), True)
    judged = [w for w in history.windows if w.size is policy.alert_window and w.num_documents]
    match settings.reports:
        case "latest":
            judged = judged[-1:]
        case "all":
            judged = _changed(judged, history, settings, context)
        case _:
            judged = []
    for window in judged:
        starts.setdefault(window.starts_at, False)
    return [
        ReportPlan(
            entity=position,
            entity_id=entity.id,
            size=policy.alert_window,
            starts_at=start,
            name=_name(policy, start),
            has_alert=has_alert,
            known_until=known_until,
        )
        for start, has_alert in sorted(starts.items())
    ]


def first_reports(reports: Iterable[ReportPlan], max_reports: int) -> list[ReportPlan]:
    """Return at most `max_reports` reports: those with new alerts first, then those of the newest windows.

    Reports on windows of the same time are in the order of the watch list.
    """
    in_order = sorted(reports, key=lambda report: report.entity)
    in_order.sort(key=lambda report: (report.has_alert, report.starts_at), reverse=True)
    return in_order[:max_reports]


def num_left_out(outputs: Iterable[WindowsOutput], settings: SentimentSettings) -> int:
    """Return the number of reports left out by `max_reports`, given the outputs of all `windows` jobs."""
    return max(sum(output.num_reports_wanted for output in outputs) - settings.max_reports, 0)


def _new_alerts(history: EntityHistory, settings: SentimentSettings, context: Context) -> list[datetime]:
    """Return the starts of the windows with alerts that no earlier batch has raised."""
    notified = context.port(History).alerts(
        settings.monitor_id, [history.entity_id], since=history.since, until=history.read_at + FAR
    )
    known = {alert.key for alert in notified.get(history.entity_id, [])}
    return [alert.starts_at for alert in history.alerts if alert.key not in known]


def _changed(
    judged: list[EntityWindow], history: EntityHistory, settings: SentimentSettings, context: Context
) -> list[EntityWindow]:
    """Return the windows that differ from the stored ones in any figure, including those of their past."""
    if not judged:
        return []
    kept = context.port(History).windows(
        settings.monitor_id,
        [history.entity_id],
        judged[0].size,
        since=judged[0].starts_at,
        until=judged[-1].starts_at + timedelta(microseconds=1),
    )
    standing = {window.starts_at: window for window in kept.get(history.entity_id, [])}
    return [window for window in judged if standing.get(window.starts_at) != window]


def _name(policy: Policy, start: datetime) -> str:
    """Return the name of a window in file names: its local date or, for an hour, its start in UTC.

    Local hours would not be unique when clocks change.
    """
    if policy.alert_window is WindowSize.HOUR:
        return start.strftime("%Y-%m-%dT%H%MZ")
    return start.astimezone(ZoneInfo(policy.time_zone)).strftime("%Y-%m-%d")
