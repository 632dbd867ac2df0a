"""The page of a sentiment batch, which shows changes, the documents behind them, and links to reports.

The page loads no other files. Its texts come from documents that anybody may have written, so the template
escapes them, and the page's content security policy allows no scripts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from kinds.sentiment.documents.watchlist import Entity
from kinds.sentiment.export_files import ExportSource, ReportEntry, SentimentFigures, Windows
from kinds.sentiment.report import prose
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, shifted
from kinds.sentiment.store.alerts import AlertRecord
from kinds.sentiment.store.documents import MentionRecord, find_mentions
from pressroom.pages import Page

MAX_PAGE_ALERTS = 60
"""Maximum number of alerts on the page, which shows the newest; alerts.jsonl contains all."""

MAX_ALERT_DOCUMENTS = 3
"""Maximum number of documents quoted per alert; the alert's report quotes more."""

RECENT = timedelta(days=14)
"""Maximum age of alerts that move their entity to the top of the table."""

SPARK_WINDOWS = 26
"""Maximum number of windows in the small line chart of an entity's score: half a year of weeks."""

PAGE = Page(
    package="kinds.sentiment",
    template="sentiment.html.jinja",
    style="sentiment.css",
    filters={"score": prose.score, "percent": prose.percent, "amount": prose.amount},
)

_GRACE = timedelta(days=1)
"""A window counts as over if the last document precedes its end by at most this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSource:
    """The data that the page is rendered from."""

    export: ExportSource
    figures: SentimentFigures
    windows: Windows
    alerts: Sequence[AlertRecord]
    """Alerts that are not withdrawn, the newest first."""
    reports: Sequence[ReportEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAlert:
    """An alert as shown on the page."""

    record: AlertRecord
    name: str
    rule: str
    words: str
    when: str
    documents: tuple[tuple[MentionRecord, str], ...]
    """Each document with its time in words."""
    report: ReportEntry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEntity:
    """A row of the table of entities."""

    entity: Entity
    window: EntityWindow | None
    """The entity's window that the table shows; None if the entity has no such window."""
    num_recent_alerts: int
    num_alerts: int
    spark: str
    """Points of an SVG polyline, 100 wide and 20 high, with score 0 in the middle."""
    reports: tuple[tuple[ReportEntry, str], ...]
    """Each report with its window in words."""

    @property
    def weight_of_change(self) -> float:
        """Size of the change times the square root of the number of documents; 0 if there is no change.

        The factor compensates for the chance variation, which is larger for fewer documents.
        """
        if self.window is None or self.window.change is None:
            return 0.0
        return float(abs(self.window.change) * self.window.num_documents**0.5)


def render_sentiment_page(database: Engine, source: PageSource) -> str:
    """Render the page as HTML; documents that alerts cite are read from the database."""
    alerts = _alerts(database, source)
    size = table_size(source)
    starts_at = _shown_start(source, size)
    return PAGE.render(
        source.figures.as_of,
        source=source,
        figures=source.figures,
        monitor=source.export.monitor,
        settings=source.export.settings,
        watchlist=source.export.watchlist,
        report=source.export.summary.report,
        when=prose.moment(source.figures.as_of, _zone(source)),
        size=size,
        window_words=_window_words(source, size, starts_at),
        alerts=alerts,
        num_alerts=len(source.alerts),
        max_alerts=MAX_PAGE_ALERTS,
        recent_days=RECENT.days,
        entities=_entities(source, size, starts_at),
    )


def table_size(source: PageSource) -> WindowSize:
    """Return the size of the windows in the table.

    It is the week if the policy has weeks, because an entity typically has only two documents a day.
    """
    sizes = source.export.settings.policy.windows
    return WindowSize.WEEK if WindowSize.WEEK in sizes else sizes[-1]


def _zone(source: PageSource) -> ZoneInfo:
    return ZoneInfo(source.export.settings.policy.time_zone)


def _shown_start(source: PageSource, size: WindowSize) -> datetime | None:
    """Return the start of the window that the table shows: the last finished one, otherwise the newest.

    The result is None if there are no windows.
    """
    starts = {
        window.starts_at
        for entity in source.export.watchlist.entities
        for window in source.windows.get((entity.id, size), ())
    }
    end = source.figures.as_of + _GRACE
    over = [at for at in starts if shifted(size, _zone(source), at, 1) <= end]
    return max(over or starts, default=None)


def _window_words(source: PageSource, size: WindowSize, starts_at: datetime | None) -> str:
    if starts_at is None:
        return f"the last {size.value}"
    zone = _zone(source)
    return prose.span_of(size, starts_at, shifted(size, zone, starts_at, 1), zone)


def _entities(source: PageSource, size: WindowSize, starts_at: datetime | None) -> list[PageEntity]:
    """Return the rows of the table, sorted by number of recent alerts, then by weight of the change."""
    recent = Counter(
        record.alert.entity_id
        for record in source.alerts
        if record.alert.starts_at >= source.figures.as_of - RECENT
    )
    all_alerts = Counter(record.alert.entity_id for record in source.alerts)
    reports: defaultdict[str, list[tuple[ReportEntry, str]]] = defaultdict(list)
    for report in source.reports:
        reports[report.entity_id].append((report, _report_words(report, _zone(source))))
    rows = []
    for entity in source.export.watchlist.entities:
        windows = source.windows.get((entity.id, size), ())
        rows.append(
            PageEntity(
                entity=entity,
                window=next((window for window in windows if window.starts_at == starts_at), None),
                num_recent_alerts=recent[entity.id],
                num_alerts=all_alerts[entity.id],
                spark=spark_points(windows[-SPARK_WINDOWS:]),
                reports=tuple(sorted(reports[entity.id], key=_starts_at, reverse=True)),
            )
        )
    rows.sort(key=lambda row: (-row.num_recent_alerts, -row.weight_of_change, row.entity.name))
    return rows


def _starts_at(report: tuple[ReportEntry, str]) -> str:
    return str(report[0].metrics.get("starts_at", ""))


def _report_words(report: ReportEntry, zone: ZoneInfo) -> str:
    """Return when the report's window began, as in "11 January 2025"."""
    try:
        at = datetime.fromisoformat(str(report.metrics.get("starts_at")))
    except ValueError:
        return report.stem
    return prose.day(at, zone)


def spark_points(windows: Sequence[EntityWindow]) -> str:
    """Return the scores of the windows as points of a line, skipping windows without documents."""
    if len(windows) < 2:
        return ""
    step = 100 / (len(windows) - 1)
    scored = [(place, w.mean_score) for place, w in enumerate(windows) if w.mean_score is not None]
    return " ".join(f"{place * step:.1f},{10 - 9 * score:.1f}" for place, score in scored)


def _alerts(database: Engine, source: PageSource) -> list[PageAlert]:
    zone = _zone(source)
    names = {entity.id: entity.name for entity in source.export.watchlist.entities}
    by_window = {(r.entity_id, _starts_at((r, ""))): r for r in source.reports}
    shown = source.alerts[:MAX_PAGE_ALERTS]
    cited = [
        (record.alert.entity_id, document_id)
        for record in shown
        for document_id in record.alert.document_ids[:MAX_ALERT_DOCUMENTS]
    ]
    mentions = find_mentions(database, source.export.monitor.id, cited)
    alerts = []
    for record in shown:
        alert = record.alert
        name = names.get(alert.entity_id, alert.entity_id)
        keys = [(alert.entity_id, document_id) for document_id in alert.document_ids[:MAX_ALERT_DOCUMENTS]]
        documents = [mentions[key] for key in keys if key in mentions]
        end = shifted(alert.size, zone, alert.starts_at, 1)
        alerts.append(
            PageAlert(
                record=record,
                name=name,
                rule=prose.RULE_NAMES[alert.rule],
                words=prose.alert_words(alert, name),
                when=prose.span_of(alert.size, alert.starts_at, end, zone),
                documents=tuple((each, prose.moment(each.published_at, zone)) for each in documents),
                report=by_window.get((alert.entity_id, alert.starts_at.isoformat())),
            )
        )
    return alerts
