"""Which windows a batch writes reports of, and which first, where it may not write all of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobs.kind import Context
from kinds.sentiment.documents.watchlist import Entity
from kinds.sentiment.history import History
from kinds.sentiment.outputs import WantedReport, WindowsOutput
from kinds.sentiment.payload import SentimentSettings
from kinds.sentiment.records import EntityHistory
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.window import EntityWindow, WindowSize

FAR = timedelta(days=7)
"""After now nothing begins that far: documents are refused that are a day ahead."""


def wanted_reports(
    position: int,
    entity: Entity,
    history: EntityHistory,
    known_until: datetime | None,
    settings: SentimentSettings,
    context: Context,
) -> list[WantedReport]:
    """The windows of an entity to write about, by `settings.reports`; those with new alerts always."""
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
        WantedReport(
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


def first(wanted: Iterable[WantedReport], max_reports: int) -> list[WantedReport]:
    """Those that are written: windows with new alerts, then the newest; of one time by the watch list."""
    in_order = sorted(wanted, key=lambda report: report.entity)
    in_order.sort(key=lambda report: (report.has_alert, report.starts_at), reverse=True)
    return in_order[:max_reports]


def num_left_out(outputs: Iterable[WindowsOutput], settings: SentimentSettings) -> int:
    """Reports that `max_reports` has cut off, from the outputs of all jobs of the stage `windows`."""
    return max(sum(output.num_reports_wanted for output in outputs) - settings.max_reports, 0)


def _new_alerts(history: EntityHistory, settings: SentimentSettings, context: Context) -> list[datetime]:
    """When the windows begin whose alerts no earlier batch has raised."""
    notified = context.port(History).alerts(
        settings.monitor_id, [history.entity_id], since=history.since, until=history.read_at + FAR
    )
    known = {alert.key for alert in notified.get(history.entity_id, [])}
    return [alert.starts_at for alert in history.alerts if alert.key not in known]


def _changed(
    judged: list[EntityWindow], history: EntityHistory, settings: SentimentSettings, context: Context
) -> list[EntityWindow]:
    """Those that are not kept already, figure for figure; a past that has changed is another figure, too."""
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
    """Of a window, for files: the local day, or the hour in UTC, which no change of clocks repeats."""
    if policy.alert_window is WindowSize.HOUR:
        return start.strftime("%Y-%m-%dT%H%MZ")
    return start.astimezone(ZoneInfo(policy.time_zone)).strftime("%Y-%m-%d")
