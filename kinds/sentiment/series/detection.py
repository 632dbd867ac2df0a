"""Turns tests of single windows into alerts, one for each event that a person wants to know about.

A rule fires at every window whose p-value lies below its threshold. A firing raises an alert only if the rule
has not fired during the cool-down before it, so an ongoing silence or bad mood is not reported again.
Whether an alert is raised depends only on the windows of the cool-down, not on earlier alerts. Late documents
therefore change alerts only within a bounded period.

The thresholds divide a monitor's budget of false alarms per week, which the rules share equally. A rule
judges every entity at the end of every window. If each firing raised an alert, the expected number of false
alarms per week would be entities x windows x threshold (Bonferroni's count, which also holds for dependent
tests, because expectations add). Neighbouring tests of long runs share most of their documents and are
covered by a single alert, so a rule needs to account for fewer tests. Their number, TESTS_PER_WINDOW, is set
from the simulations of benchmarks/alerts.py so that the measured rate stays below the budget.

To add a rule, add a member of AlertRule, a function in volume_rules.py, mood_rules.py or a new module, its
line in JUDGES, its tests, and its quiet and planted feeds in benchmarks/alerts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.counts import Columns, Counts, Readings, epoch_us_of
from kinds.sentiment.series.mood_rules import judge_reversal, judge_slide
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import WindowSize, shifted, window_of
from kinds.sentiment.series.trading_days import trading_days
from kinds.sentiment.series.verdicts import SCALES, Int64s, Scale, Verdicts
from kinds.sentiment.series.volume_rules import judge_silence, judge_surge

Judge = Callable[[Counts, Int64s, Int64s, Scale], Verdicts]
"""A function that judges windows by one rule.

It takes the counts, each window's cell of the week (see `_cells`), the indices of the windows to judge, and
the scale. At least `Scale.past` windows must lie before each index. A verdict does not depend on windows
after the judged one."""

JUDGES: dict[AlertRule, Judge] = {
    AlertRule.SURGE: judge_surge,
    AlertRule.SLIDE: judge_slide,
    AlertRule.SILENCE: judge_silence,
    AlertRule.REVERSAL: judge_reversal,
}

TESTS_PER_WINDOW: dict[AlertRule, float] = {
    AlertRule.SURGE: 0.75,
    AlertRule.SLIDE: 0.2,
    AlertRule.SILENCE: 0.25,
    AlertRule.REVERSAL: 0.08,
}


def thresholds(policy: Policy, num_entities: int) -> dict[AlertRule, float]:
    """Return, for each rule of the policy, the p-value below which the rule fires.

    Raises ValueError for fewer than one entity.
    """
    if num_entities < 1:
        raise ValueError("a monitor must have at least one entity")
    share = policy.false_alarms_per_week / max(len(policy.rules), 1) / num_entities
    windows = SCALES[policy.alert_window].windows_per_week
    return {rule: share / (windows * TESTS_PER_WINDOW[rule]) for rule in policy.rules}


MAX_DOCUMENTS = 8
"""Maximum number of documents that an alert cites: few enough for a person to read them all."""

_WEEKEND = 5
_SUNDAY = 6
_HALF_DAY = timedelta(hours=12)


def first_window(policy: Policy, since: datetime) -> datetime:
    """Return the start of the earliest window that is needed to compute the alerts from `since` on."""
    size, zone = policy.alert_window, ZoneInfo(policy.time_zone)
    quiet_since = window_of(size, zone, since) - timedelta(hours=policy.cool_down_hours)
    return shifted(size, zone, window_of(size, zone, quiet_since), -SCALES[size].past - 1)


def detect_alerts(
    entity_id: str,
    readings: Readings,
    counts: Counts,
    *,
    since: datetime,
    as_of: datetime,
    policy: Policy,
    num_entities: int,
) -> list[Alert]:
    """Return the alerts of windows from `since` on that have ended by `as_of`, sorted by time and rule.

    `counts` are windows of `policy.alert_window` that begin at `first_window(policy, since)` or earlier.
    """
    num_judged = len(counts) if counts.ends_at <= as_of else len(counts) - 1
    at = np.arange(max(SCALES[counts.size].past, counts.known_from), num_judged)
    alerts = []
    for rule, threshold, verdicts, places in firings(counts, at, policy, num_entities):
        for place in places:
            index = int(at[place])
            if counts.starts[index] >= since:
                documents = _drivers(rule, readings, counts, index, int(verdicts.run[place]))
                alerts.append(
                    Alert(
                        entity_id=entity_id,
                        rule=rule,
                        size=counts.size,
                        starts_at=counts.starts[index],
                        statistic=float(verdicts.statistic[place]),
                        p_value=float(verdicts.p_value[place]),
                        threshold=threshold,
                        observed=float(verdicts.observed[place]),
                        expected=float(verdicts.expected[place]),
                        document_ids=documents,
                    )
                )
    return sorted(alerts, key=lambda alert: (alert.starts_at, alert.rule))


def observed_alerts(alerts: Iterable[Alert], until: datetime, policy: Policy) -> tuple[Alert, ...]:
    """Return all alerts except silence alerts of windows that end after `until`, the end of observation."""
    zone = ZoneInfo(policy.time_zone)
    return tuple(
        alert
        for alert in alerts
        if alert.rule is not AlertRule.SILENCE or shifted(alert.size, zone, alert.starts_at, 1) <= until
    )


def firings(
    counts: Counts, at: NDArray[np.int64], policy: Policy, num_entities: int
) -> Iterator[tuple[AlertRule, float, Verdicts, list[int]]]:
    """Yield each rule of the policy with its threshold, its verdicts and the positions that raise alerts.

    The verdicts are on the windows at the indices `at`; the positions are those in `at`.
    """
    if not len(at):
        return
    starts_us = np.array([epoch_us_of(counts.starts[index]) for index in at], np.int64)
    zone = ZoneInfo(policy.time_zone)
    cells = _cells(counts, zone)
    quiet = quiet_windows(counts, policy)
    for rule, threshold in thresholds(policy, num_entities).items():
        is_silence = rule is AlertRule.SILENCE
        own = _with_quiet_days(cells, quiet, counts, zone) if is_silence and quiet.any() else cells
        verdicts = JUDGES[rule](counts, own, at, SCALES[counts.size])
        fires = verdicts.p_value < threshold
        if is_silence:
            fires &= ~quiet[at]
        yield rule, threshold, verdicts, _onsets(fires, starts_us, policy.cool_down_hours)


def quiet_windows(counts: Counts, policy: Policy) -> NDArray[np.bool_]:
    """Return whether each window is quiet: it has no full session, though that weekday usually has one.

    On a day with an early close, the hours from the close on are quiet. A week is quiet if fewer than half of
    its usual sessions take place in full. Without a calendar, no window is quiet. Raises CalendarError.
    """
    if policy.calendar is None:
        return np.zeros(len(counts), np.bool_)
    days = trading_days(policy.calendar)
    if counts.size is WindowSize.HOUR:
        return np.array([days.is_quiet_at(start) for start in counts.starts], np.bool_)
    noons = [start.astimezone(days.zone) + _HALF_DAY for start in counts.starts]
    if counts.size is WindowSize.DAY:
        return np.array([days.is_quiet_day(noon.date()) for noon in noons], np.bool_)
    num_usual = 7 - len(days.weekly_closed)
    num_quiet = [
        sum(days.is_quiet_day((noon + timedelta(days=number)).date()) for number in range(7))
        for noon in noons
    ]
    return np.array([2 * number > num_usual for number in num_quiet], np.bool_)


def _with_quiet_days(
    cells: NDArray[np.int64], quiet: NDArray[np.bool_], counts: Counts, zone: ZoneInfo
) -> NDArray[np.int64]:
    """Return the cells, with quiet days treated as Sundays and quiet hours as weekend hours."""
    if counts.size is WindowSize.HOUR:
        hours = np.array([start.astimezone(zone).hour for start in counts.starts], np.int64)
        return np.where(quiet, hours + 24, cells)
    if counts.size is WindowSize.DAY:
        return np.where(quiet, _SUNDAY, cells)
    return cells


def _onsets(fires: NDArray[np.bool_], starts_us: NDArray[np.int64], cool_down_hours: float) -> list[int]:
    """Return the positions of the firings that no other firing precedes within the cool-down.

    A cool-down shorter than a window counts as one window; otherwise an ongoing event would be reported again
    in every window.
    """
    places = np.flatnonzero(fires)
    apart = np.diff(starts_us[places]) > cool_down_hours * 3.6e9
    if cool_down_hours > 0:
        apart &= np.diff(places) > 1
    return [int(place) for place in places[np.concatenate([[True], apart])]] if len(places) else []


def _cells(counts: Counts, zone: ZoneInfo) -> NDArray[np.int64]:
    """Return the cell of each window; windows at the same time of the week share a cell.

    Days are grouped by weekday. Hours are grouped by hour of a working day or of a weekend, because each of
    168 cells would hold too little data.
    """
    if counts.size is WindowSize.WEEK:
        return np.zeros(len(counts), np.int64)
    local = [start.astimezone(zone) for start in counts.starts]
    if counts.size is WindowSize.DAY:
        return np.array([moment.weekday() for moment in local], np.int64)
    return np.array([moment.hour + 24 * (moment.weekday() >= _WEEKEND) for moment in local], np.int64)


def _drivers(rule: AlertRule, readings: Readings, counts: Counts, index: int, run: int) -> tuple[str, ...]:
    """Return the ids of at most MAX_DOCUMENTS first reports behind the verdict.

    These are the documents of the run that contribute most or, for a silence, the latest documents before the
    end of the window.
    """
    ends_at = counts.starts[index + 1] if index + 1 < len(counts) else counts.ends_at
    first = index - run + 1
    if rule is AlertRule.SILENCE:
        begin = counts.starts[first - SCALES[counts.size].baseline]
        columns = readings.since(begin)
        places = _counted(columns, begin, ends_at)[::-1]
    else:
        begin = counts.starts[first]
        columns = readings.since(begin)
        places = _counted(columns, begin, ends_at)
        pull = columns.score[places] * columns.weight[places]
        if rule is AlertRule.REVERSAL and pull.sum() > 0:
            pull = -pull
        if rule is AlertRule.SURGE:
            places, pull = places[columns.label[places] == 0], pull[columns.label[places] == 0]
        places = places[np.argsort(pull, kind="stable")]
    return tuple(columns.mentions[place].document_id for place in places[:MAX_DOCUMENTS])


def _counted(columns: Columns, begin: datetime, end: datetime) -> NDArray[np.int64]:
    low, high = np.searchsorted(columns.epoch_us, [epoch_us_of(begin), epoch_us_of(end)])
    places: NDArray[np.int64] = low + np.flatnonzero(columns.first[low:high])
    return places
