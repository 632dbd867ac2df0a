"""The stage `reports`: writes the report of one entity in one window from the history."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobs.errors import PermanentError, TransientError
from jobs.kind import Context, Parent, Result
from kinds.sentiment.documents.watchlist import Entity
from kinds.sentiment.entity_links import PreparedWatchlist, prepare_watchlist
from kinds.sentiment.history import History
from kinds.sentiment.payload import ReportPayload, SentimentSettings
from kinds.sentiment.report.facts import (
    CHART_WINDOWS,
    Neighbour,
    ReportFacts,
    StoredSeries,
    make_facts,
)
from kinds.sentiment.report.files import counted_parent, make_report
from kinds.sentiment.series.counts import sums_of
from kinds.sentiment.series.mention import CountedDocument
from kinds.sentiment.series.time_windows import EntityWindow, WindowSums, shifted

CITED_PAST = timedelta(weeks=8)
"""Length of the past from which a report reads mentions, to find documents that the window's alerts cite. A
rule judges runs of at most six weeks."""


class WindowGoneError(PermanentError):
    """The window to be reported is no longer in the history, because its documents were corrected."""

    code = "window_gone"


class WindowChangingError(TransientError):
    """The window's counts do not match its documents, because a concurrent batch has corrected some."""

    code = "window_changing"


def write_report(payload: ReportPayload, settings: SentimentSettings, context: Context) -> Result:
    """Gather the facts of a window and write its report.

    Raises WindowGoneError, WindowChangingError, and whatever the ports raise.
    """
    watched = context.resources.load(settings.watchlist_sha256, prepare_watchlist)
    entity = watched.watchlist.entities[payload.entity]
    facts = _facts(payload, entity, watched, settings, context)
    report = make_report(
        facts,
        context.inference if settings.summarizer else None,
        model=settings.summarizer,
        seed=context.seed,
    )
    return Result(
        artifacts=report.artifacts,
        template=report.template,
        metrics=report.metrics,
        parents=(
            Parent("watchlist", watched.watchlist.name, settings.watchlist_sha256),
            counted_parent(facts.window, facts.counted),
            *_document_parents(facts, settings, context),
        ),
    )


def _facts(
    payload: ReportPayload,
    entity: Entity,
    watched: PreparedWatchlist,
    settings: SentimentSettings,
    context: Context,
) -> ReportFacts:
    history, monitor_id, size = context.port(History), settings.monitor_id, payload.size
    zone = ZoneInfo(settings.policy.time_zone)
    begin = shifted(size, zone, payload.starts_at, 1 - CHART_WINDOWS[size])
    end = shifted(size, zone, payload.starts_at, 1)
    windows = history.windows(monitor_id, [entity.id], size, since=begin, until=end).get(entity.id, [])
    if not windows or windows[-1].starts_at != payload.starts_at:
        raise WindowGoneError(
            f"{entity.id} no longer has a window of {payload.starts_at:%Y-%m-%d %H:%M}Z, because its "
            "documents were corrected: run the monitor again"
        )
    alerts = history.alerts(monitor_id, [entity.id], since=begin, until=end).get(entity.id, [])
    since = payload.starts_at - CITED_PAST
    mentions = history.mentions(monitor_id, {entity.id: since}, until=end).get(entity.id, [])
    stored = StoredSeries(
        windows=windows,
        alerts=alerts,
        mentions=mentions,
        novelties=history.novelties(monitor_id, entity.id, since=since, until=end),
        counted=_counted(windows[-1], end, settings, context),
    )
    return make_facts(
        entity,
        windows[-1],
        stored,
        time_zone=settings.policy.time_zone,
        neighbours=_neighbours(payload, entity, watched, settings, context),
        min_relevance=settings.policy.min_relevance,
        known_until=payload.known_until,
    )


def _counted(
    window: EntityWindow, ends_at: datetime, settings: SentimentSettings, context: Context
) -> list[CountedDocument]:
    """Return the documents that the window counts.

    Raises WindowChangingError if they do not add up to the window's sums.
    """
    documents = context.port(History).counted(
        settings.monitor_id,
        window.entity_id,
        since=window.starts_at,
        until=ends_at,
        min_relevance=settings.policy.min_relevance,
    )
    sums = sums_of(documents, window.starts_at)
    if any(getattr(window, name) != getattr(sums, name) for name in WindowSums.__dataclass_fields__):
        raise WindowChangingError(
            f"documents of {window.entity_id} in the window of {window.starts_at:%Y-%m-%d %H:%M}Z were "
            "corrected and have not been counted again yet: the next run of the monitor counts them"
        )
    return documents


def _neighbours(
    payload: ReportPayload,
    entity: Entity,
    watched: PreparedWatchlist,
    settings: SentimentSettings,
    context: Context,
) -> list[Neighbour]:
    """Return the other entities in the same window, except those whose series do not reach it."""
    names = {other.id: other.name for other in watched.watchlist.entities if other.id != entity.id}
    begin, end = payload.starts_at, payload.starts_at + timedelta(seconds=1)
    monitor_id, ids = settings.monitor_id, list(names)
    if not ids:
        return []
    windows = context.port(History).windows(monitor_id, ids, payload.size, since=begin, until=end)
    alerts = context.port(History).alerts(monitor_id, ids, since=begin, until=end)
    return [
        Neighbour(name=names[entity_id], window=same[0], num_alerts=len(alerts.get(entity_id, ())))
        for entity_id, same in windows.items()
    ]


def _document_parents(facts: ReportFacts, settings: SentimentSettings, context: Context) -> list[Parent]:
    """Return one parent for each document that the report quotes or that its alerts cite."""
    ids = {driver.document_id for driver in facts.drivers}
    ids.update(document_id for alert in facts.alerts for document_id in alert.document_ids)
    known = context.port(History).documents(settings.monitor_id, sorted(ids))
    return [Parent("document", document_id, known[document_id].sha256) for document_id in sorted(known)]
