"""The stage `windows`: brings the series of a few entities up to date from the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from jobs.kind import Artifact, Context, Parent, Result
from kinds.sentiment.history import History, Unsettled
from kinds.sentiment.outputs import WantedReport, WindowsOutput
from kinds.sentiment.payload import SentimentSettings, WindowsPayload
from kinds.sentiment.records import EntityHistory
from kinds.sentiment.series.detection import observed_alerts
from kinds.sentiment.series.entity_series import StoredSums, begin_of, compute_series, windows_needed
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.novelty import HISTORY
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, shifted, window_of
from kinds.sentiment.wanted import first, wanted_reports
from kinds.sentiment.watched import Watched, load_watched

MICROSECOND = timedelta(microseconds=1)
"""Added to the last instant to be read, because ranges of the history exclude their end."""


def bring_up_to_date(payload: WindowsPayload, settings: SentimentSettings, context: Context) -> Result:
    """Compute the windows and alerts of each entity from its first change on. Raises what the ports raise."""
    watched = context.resources.load(settings.watchlist_sha256, load_watched)
    entities = dict(enumerate(watched.watchlist.entities[payload.start : payload.stop], start=payload.start))
    state = _state([entity.id for entity in entities.values()], payload.as_of, settings, context)
    due = {
        position: _Due(since, state.first_at.get(entity.id) or until, settings.policy)
        for position, entity in entities.items()
        if (until := state.as_of) and (since := _since(entity.id, payload.since.get(position), state))
    }
    stands = {entities[at].id: one for at, one in due.items() if entities[at].id in state.until}
    past = _past(stands, state, settings, context)
    with watched.turn:
        histories = {
            position: _history(entities[position].id, one, past, state, payload, settings, context)
            for position, one in due.items()
        }
    wanted = [
        report
        for position, history in histories.items()
        for report in wanted_reports(
            position, entities[position], history, state.known_until, settings, context
        )
    ]
    return _result(list(histories.values()), wanted, settings, watched)


def _result(
    histories: Sequence[EntityHistory],
    wanted: Sequence[WantedReport],
    settings: SentimentSettings,
    watched: Watched,
) -> Result:
    return Result(
        artifacts=(Artifact(name="series.jsonl", media_type="application/jsonl", body=_lines(histories)),),
        output=WindowsOutput(
            reports=tuple(first(wanted, settings.max_reports)), num_reports_wanted=len(wanted)
        ),
        metrics={
            "num_reports_wanted": len(wanted),
            "num_windows": sum(len(history.windows) for history in histories),
            "num_alerts": sum(len(history.alerts) for history in histories),
            "num_followups": sum(one.number > 1 for history in histories for one in history.novelties),
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
    """Windows that end later are not over, except that of the last document where only files are read."""
    last_at: datetime | None
    """When the monitor's newest document was published."""
    read_until: datetime | None
    """When the latest run that read all sources was due; windows may have been judged up to then before."""
    first_at: Mapping[str, datetime]
    until: Mapping[str, datetime]
    unsettled: Mapping[str, Unsettled]


@dataclass(frozen=True, slots=True)
class _Due:
    """The instant from which the series of an entity is computed."""

    since: datetime
    first_at: datetime
    policy: Policy

    @property
    def begin(self) -> datetime:
        return begin_of(self.policy, max(self.since, self.first_at))


@dataclass(frozen=True, slots=True)
class _Past:
    """Sums of the windows kept for each entity, and its mentions after them together with their HISTORY."""

    sums: Mapping[str, StoredSums]
    mentions: Mapping[str, Sequence[Mention]]


def _state(
    entity_ids: Sequence[str], given_as_of: datetime | None, settings: SentimentSettings, context: Context
) -> _State:
    monitor_id, policy, history = settings.monitor_id, settings.policy, context.port(History)
    # Hours without documents have no window, so hour windows do not show how far a series reaches.
    sizes = [size for size in policy.windows if size is not WindowSize.HOUR] or policy.windows
    read_at, read_until = history.now(), history.read_until(monitor_id)
    last_at = history.last_published_at(monitor_id)
    known_until = max((at for at in (given_as_of, last_at, read_until) if at is not None), default=None)
    return _State(
        read_at=read_at,
        as_of=_as_of(known_until, last_at, settings),
        known_until=known_until,
        last_at=last_at,
        read_until=read_until,
        first_at=history.first_published_at(monitor_id, entity_ids),
        until=history.last_window_at(monitor_id, entity_ids, sizes),
        unsettled=history.unsettled(monitor_id, entity_ids),
    )


def _since(entity_id: str, changed_at: datetime | None, state: _State) -> datetime | None:
    """Return the earliest instant from which anything may differ; None if the entity was never mentioned."""
    first_at, until = state.first_at.get(entity_id), state.until.get(entity_id)
    if first_at is None and until is None:
        return None
    if until is None:  # the first time, or the policy changed: everything
        changed_at = first_at
    unsettled = state.unsettled.get(entity_id)
    changes = (changed_at, None if unsettled is None else unsettled.since, until, state.as_of)
    return min(instant for instant in changes if instant is not None)


def _past(due: Mapping[str, _Due], state: _State, settings: SentimentSettings, context: Context) -> _Past:
    """Read the past of all entities in two statements.

    Call it after `_state`: changes that arrive later remain unsettled for the next job.
    """
    if not due or state.as_of is None:
        return _Past({}, {})
    monitor_id, policy, history = settings.monitor_id, settings.policy, context.port(History)
    needed = {id_: windows_needed(policy, one.begin) for id_, one in due.items()}
    until = max(one.begin for one in due.values())
    return _Past(
        sums=history.window_sums(monitor_id, needed, policy.windows, until=until),
        mentions=history.mentions(
            monitor_id,
            {id_: one.begin - HISTORY for id_, one in due.items()},
            until=state.as_of + MICROSECOND,
        ),
    )


def _history(
    entity_id: str,
    due: _Due,
    past: _Past,
    state: _State,
    payload: WindowsPayload,
    settings: SentimentSettings,
    context: Context,
) -> EntityHistory:
    monitor_id, until = settings.monitor_id, state.as_of or due.since
    stored = past.sums.get(entity_id)

    def read(since: datetime) -> Sequence[Mention]:
        if stored is not None and since >= due.begin - HISTORY:
            return past.mentions.get(entity_id, ())
        found = context.port(History).mentions(monitor_id, {entity_id: since}, until=until + MICROSECOND)
        return found.get(entity_id, ())

    series = compute_series(
        entity_id,
        read,
        since=due.since,
        as_of=until,
        first_at=due.first_at,
        policy=due.policy,
        num_entities=settings.num_entities,
        stored=stored,
    )
    unsettled = state.unsettled.get(entity_id)
    return EntityHistory(
        monitor_id=monitor_id,
        entity_id=entity_id,
        read_at=state.read_at,
        since=min(due.since, series.since),
        policy=due.policy,
        unsettled=None if unsettled is None else unsettled.number,
        novelties=series.novelties,
        windows=series.windows,
        alerts=observed_alerts(series.alerts, _observed_until(payload, settings, state, until), due.policy),
    )


def _observed_until(
    payload: WindowsPayload, settings: SentimentSettings, state: _State, as_of: datetime
) -> datetime:
    """Return until when all sources were observed; windows that end later raise no silence alerts.

    Beyond this instant some source had not been read or, where only files are read, there is no document.
    """
    own = payload.observed_until or settings.as_of
    return (state.last_at or as_of) if own is None else max(own, state.read_until or own)


def _as_of(
    known_until: datetime | None, last: datetime | None, settings: SentimentSettings
) -> datetime | None:
    """Return the instant up to which windows are judged.

    It is not earlier than the last document or than any run has judged, so that a window once judged as ended
    stays ended. Where only files are read, the window of the last document counts as ended, too, because
    nothing else tells how late it is. Documents missing from it may still arrive, so it raises no silence
    alert, see `_observed_until`.
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
    rows = [
        {"type": kind, **_fields(one)}
        for history in histories
        for kind, some in (("window", history.windows), ("alert", history.alerts))
        for one in some
    ]
    return b"".join(to_json(row) + b"\n" for row in rows)


def _fields(one: EntityWindow | Alert) -> Mapping[str, object]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}
