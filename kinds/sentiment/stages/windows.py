"""The stage `windows`: updates the series of a few entities from the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from jobs.kind import Artifact, Context, Parent, Result
from kinds.sentiment.entity_links import PreparedWatchlist, prepare_watchlist
from kinds.sentiment.history import EntityHistory, History, PendingChange
from kinds.sentiment.payload import ReportPlan, SentimentSettings, WindowsOutput, WindowsPayload
from kinds.sentiment.report_plan import first_reports, plan_reports
from kinds.sentiment.series.counts import StoredSums
from kinds.sentiment.series.detection import observed_alerts
from kinds.sentiment.series.entity_series import SeriesUpdate, compute_series, windows_needed
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.novelty import HISTORY
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, shifted, window_of

MICROSECOND = timedelta(microseconds=1)
"""Resolution of instants. Ranges exclude their end, so it is added to the last instant to be read."""


def compute_windows(payload: WindowsPayload, settings: SentimentSettings, context: Context) -> Result:
    """Compute the windows and alerts of each entity from its first change on. Raises what the ports raise."""
    watched = context.resources.load(settings.watchlist_sha256, prepare_watchlist)
    entities = dict(enumerate(watched.watchlist.entities[payload.start : payload.stop], start=payload.start))
    state = _state([entity.id for entity in entities.values()], payload.as_of, settings, context)
    updates = {
        position: SeriesUpdate(
            since=since,
            as_of=until,
            first_at=state.first_at.get(entity.id) or until,
            policy=settings.policy,
            num_entities=settings.num_entities,
        )
        for position, entity in entities.items()
        if (until := state.as_of) and (since := _since(entity.id, payload.since.get(position), state))
    }
    stored = {id_: update for at, update in updates.items() if (id_ := entities[at].id) in state.until}
    past = _past(stored, state, settings, context)
    with watched.turn:
        histories = {
            position: _history(entities[position].id, update, past, state, payload, settings, context)
            for position, update in updates.items()
        }
    wanted = [
        report
        for position, history in histories.items()
        for report in plan_reports(
            position, entities[position], history, state.known_until, settings, context
        )
    ]
    return _result(list(histories.values()), wanted, settings, watched)


def _result(
    histories: Sequence[EntityHistory],
    wanted: Sequence[ReportPlan],
    settings: SentimentSettings,
    watched: PreparedWatchlist,
) -> Result:
    return Result(
        artifacts=(Artifact(name="series.jsonl", media_type="application/jsonl", body=_lines(histories)),),
        output=WindowsOutput(
            reports=tuple(first_reports(wanted, settings.max_reports)), num_reports_wanted=len(wanted)
        ),
        metrics={
            "num_reports_wanted": len(wanted),
            "num_windows": sum(len(history.windows) for history in histories),
            "num_alerts": sum(len(history.alerts) for history in histories),
            "num_followups": sum(each.number > 1 for history in histories for each in history.novelties),
        },
        records=tuple(histories),
        parents=(Parent("watchlist", watched.watchlist.name, settings.watchlist_sha256),),
    )


@dataclass(frozen=True, slots=True)
class _State:
    """How far the series of some entities reach, determined before their mentions are read."""

    read_at: datetime
    as_of: datetime | None
    """Windows are judged up to this instant."""
    known_until: datetime | None
    """Windows that end later than this are unfinished, except the window of the last document if only files
    are read."""
    last_at: datetime | None
    """When the monitor's newest document was published."""
    read_until: datetime | None
    """When the latest run that read all sources was due. The run may already have judged windows up to this
    time."""
    first_at: Mapping[str, datetime]
    until: Mapping[str, datetime]
    pending: Mapping[str, PendingChange]


@dataclass(frozen=True, slots=True)
class _Past:
    """Sums of each entity's stored windows, and its mentions published at most HISTORY before the end of
    these windows, or later."""

    sums: Mapping[str, StoredSums]
    mentions: Mapping[str, Sequence[Mention]]


def _state(
    entity_ids: Sequence[str], payload_as_of: datetime | None, settings: SentimentSettings, context: Context
) -> _State:
    monitor_id, policy, history = settings.monitor_id, settings.policy, context.port(History)
    # Hours without documents have no window, so hour windows do not show how far a series reaches.
    sizes = [size for size in policy.windows if size is not WindowSize.HOUR] or policy.windows
    read_at, read_until = history.now(), history.read_until(monitor_id)
    last_at = history.last_published_at(monitor_id)
    known_until = max((at for at in (payload_as_of, last_at, read_until) if at is not None), default=None)
    return _State(
        read_at=read_at,
        as_of=_as_of(known_until, last_at, settings),
        known_until=known_until,
        last_at=last_at,
        read_until=read_until,
        first_at=history.first_published_at(monitor_id, entity_ids),
        until=history.last_window_at(monitor_id, entity_ids, sizes),
        pending=history.pending_changes(monitor_id, entity_ids),
    )


def _since(entity_id: str, changed_at: datetime | None, state: _State) -> datetime | None:
    """Return the instant from which the series may change; None if the entity was never mentioned."""
    first_at, until = state.first_at.get(entity_id), state.until.get(entity_id)
    if first_at is None and until is None:
        return None
    if until is None:  # first computation, or changed policy: compute everything
        changed_at = first_at
    pending = state.pending.get(entity_id)
    changes = (changed_at, None if pending is None else pending.since, until, state.as_of)
    return min(instant for instant in changes if instant is not None)


def _past(
    updates: Mapping[str, SeriesUpdate], state: _State, settings: SentimentSettings, context: Context
) -> _Past:
    """Read the past of all entities in two statements.

    Call it after `_state`: changes that arrive later are left to the next job.
    """
    if not updates or state.as_of is None:
        return _Past({}, {})
    monitor_id, policy, history = settings.monitor_id, settings.policy, context.port(History)
    needed = {id_: windows_needed(policy, update.begin) for id_, update in updates.items()}
    until = max(update.begin for update in updates.values())
    return _Past(
        sums=history.window_sums(monitor_id, needed, policy.windows, until=until),
        mentions=history.mentions(
            monitor_id,
            {id_: update.begin - HISTORY for id_, update in updates.items()},
            until=state.as_of + MICROSECOND,
        ),
    )


def _history(
    entity_id: str,
    update: SeriesUpdate,
    past: _Past,
    state: _State,
    payload: WindowsPayload,
    settings: SentimentSettings,
    context: Context,
) -> EntityHistory:
    monitor_id, until = settings.monitor_id, update.as_of
    stored = past.sums.get(entity_id)

    def read(since: datetime) -> Sequence[Mention]:
        if stored is not None and since >= update.begin - HISTORY:
            return past.mentions.get(entity_id, ())
        mentions = context.port(History).mentions(monitor_id, {entity_id: since}, until=until + MICROSECOND)
        return mentions.get(entity_id, ())

    series = compute_series(entity_id, read, update, stored=stored)
    pending = state.pending.get(entity_id)
    return EntityHistory(
        monitor_id=monitor_id,
        entity_id=entity_id,
        read_at=state.read_at,
        since=min(update.since, series.since),
        policy=update.policy,
        change_number=None if pending is None else pending.number,
        novelties=series.novelties,
        windows=series.windows,
        alerts=observed_alerts(
            series.alerts, _observed_until(payload, settings, state, until), update.policy
        ),
    )


def _observed_until(
    payload: WindowsPayload, settings: SentimentSettings, state: _State, as_of: datetime
) -> datetime:
    """Return until when all sources were observed; windows that end later raise no silence alerts.

    After this instant some source has not been read or, if only files are read, there are no documents.
    """
    own = payload.observed_until or settings.as_of
    return (state.last_at or as_of) if own is None else max(own, state.read_until or own)


def _as_of(
    known_until: datetime | None, last: datetime | None, settings: SentimentSettings
) -> datetime | None:
    """Return the instant up to which windows are judged.

    It is not earlier than the last document or the instant up to which any run has judged, so that a window
    that was judged as ended remains so. If only files are read, the window of the last document counts as
    ended, too, because there is no other evidence of the time. Documents of that window may still arrive, so
    it raises no silence alert, see `_observed_until`.
    """
    if last is None or known_until is None or settings.as_of or settings.observed_until:
        return known_until
    return max(known_until, _end_of_window(last, settings.policy))


def _end_of_window(instant: datetime, policy: Policy) -> datetime:
    """Return the end of the alert window that contains the instant."""
    size, zone = policy.alert_window, ZoneInfo(policy.time_zone)
    return shifted(size, zone, window_of(size, zone, instant), 1)


def _lines(histories: Sequence[EntityHistory]) -> bytes:
    """Return windows and alerts as JSON lines, so that the database can be checked against its provenance."""
    lines = [
        {"type": kind, **_fields(row)}
        for history in histories
        for kind, rows_of_kind in (("window", history.windows), ("alert", history.alerts))
        for row in rows_of_kind
    ]
    return b"".join(to_json(line) + b"\n" for line in lines)


def _fields(row: EntityWindow | Alert) -> Mapping[str, object]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
