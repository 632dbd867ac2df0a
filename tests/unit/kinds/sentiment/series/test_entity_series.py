"""A series depends only on the set of documents, not on how they are split into batches."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.sentiment.series.counts import memory_reader
from kinds.sentiment.series.entity_series import (
    SeriesUpdate,
    begin_of,
    compute_series,
    past_needed,
    windows_needed,
)
from kinds.sentiment.series.mention import Mention, Novelty
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize
from tests.unit.kinds.sentiment.series.feed import MONDAY, mention, quiet

NUM_ENTITIES = 1
DAYS = 150
END = MONDAY + timedelta(days=DAYS)


class Kept:
    """One entity as the database stores it, changed by the calls of a batch."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.mentions: dict[str, Mention] = {}
        self.novelties: dict[str, tuple[datetime, Novelty]] = {}
        self.windows: dict[tuple[WindowSize, datetime], EntityWindow] = {}
        self.alerts: dict[str, Alert] = {}
        self.read_from = END
        """Of the last time that mentions were read."""

    def add(self, new: list[Mention], as_of: datetime) -> None:
        """Add a batch: write its documents, then compute the series from the first change on."""
        changed_at = [m.published_at for m in new]
        changed_at += [
            self.mentions[m.document_id].published_at for m in new if m.document_id in self.mentions
        ]
        self.mentions.update((m.document_id, m) for m in new)
        if not self.mentions:
            return
        last = [start for size, start in self.windows if size is self.policy.alert_window]
        first_at = min(m.published_at for m in self.mentions.values())
        since = min([*changed_at, *([max(last)] if last else [first_at])])
        kept = {size: self._kept(size, since, first_at) for size in WindowSize}
        analysis = compute_series(
            "acme-steel",
            self._read,
            SeriesUpdate(
                since=since,
                as_of=as_of,
                first_at=first_at,
                policy=self.policy,
                num_entities=NUM_ENTITIES,
            ),
            stored=kept,
        )
        since = analysis.since
        self.novelties = {i: (at, n) for i, (at, n) in self.novelties.items() if at < since}
        for novelty in analysis.novelties:
            self.novelties[novelty.document_id] = (self.mentions[novelty.document_id].published_at, novelty)
        self.windows = {key: w for key, w in self.windows.items() if w.starts_at < since}
        self.windows.update(((w.size, w.starts_at), w) for w in analysis.windows)
        self.alerts = {key: alert for key, alert in self.alerts.items() if alert.starts_at < since}
        self.alerts.update((alert.key, alert) for alert in analysis.alerts)

    def _kept(self, size: WindowSize, since: datetime, first_at: datetime) -> list[EntityWindow]:
        begin = begin_of(self.policy, max(since, first_at))
        oldest = windows_needed(self.policy, begin)
        # Those from `since` on are void, and there all the same: other entities of a job may need later ones.
        return [w for (of, at), w in self.windows.items() if of is size and oldest <= at]

    def _read(self, since: datetime) -> list[Mention]:
        self.read_from = since
        return [mention for mention in self.mentions.values() if mention.published_at >= since]

    def all(self) -> str:
        """Return everything as text, in which NaN equals NaN and 0.1 + 0.2 differs from 0.3."""
        rows = (
            sorted(self.mentions),
            sorted((i, repr(novelty)) for i, (_, novelty) in self.novelties.items()),
            sorted(map(repr, self.windows.values())),
            sorted(map(repr, self.alerts.values())),
        )
        return "\n".join(str(row) for each in rows for row in each)


def eventful() -> list[Mention]:
    """Return quiet weeks, a surge, copies of copies over many days, a reversal, and a silence."""
    made = quiet(range(70), 3, seed=1)
    made += quiet(range(70, 72), 9, seed=2, moods="nnnnno", first_number=1000)
    made += quiet(range(72, 100), 3, seed=3, first_number=2000)
    made += quiet(range(100, 130), 3, seed=4, moods="nnnno", first_number=3000)
    return made + [mention(4000 + n, 20 + 2.3 * n, text=7, num_changed=n % 12) for n in range(40)]


FEED = eventful()
LONG = quiet(range(-200, 0), 2, seed=9, first_number=50_000) + FEED
SIZES = st.sampled_from(
    [
        Policy(windows=(WindowSize.DAY, WindowSize.WEEK), time_zone="Europe/Berlin"),
        # Above every p-value: each window is an alert, and each number of each test is compared.
        Policy(cool_down_hours=0, min_relevance=0, false_alarms_per_week=100),
        Policy(cool_down_hours=200, false_alarms_per_week=5),
        Policy(windows=(WindowSize.WEEK,), alert_window=WindowSize.WEEK, time_zone="America/New_York"),
        Policy(windows=(WindowSize.HOUR, WindowSize.DAY), alert_window=WindowSize.HOUR),
    ]
)


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[list[Mention], datetime]]:
    """Draw batches of the feed: mostly by time, some documents late, some twice, with growing instants."""
    num_batches, late = draw(st.integers(1, 5)), draw(st.sampled_from([0.0, 0.002, 0.05]))
    ends = sorted(draw(st.lists(st.integers(1, DAYS), min_size=num_batches, max_size=num_batches)))
    chance = random.Random(draw(st.integers(0, 2**32)))
    batches: list[tuple[list[Mention], datetime]] = [([], MONDAY + timedelta(days=end)) for end in ends]
    batches[-1] = ([], END)
    for each in FEED:
        earliest = next((i for i, (_, as_of) in enumerate(batches) if each.published_at < as_of), 0)
        place = earliest if chance.random() >= late else chance.randrange(earliest, num_batches)
        batches[place][0].append(each)
        if chance.random() < late:
            batches[chance.randrange(place, num_batches)][0].append(each)
    for documents, _ in batches:
        chance.shuffle(documents)
    return batches


@given(cuts(), SIZES)
@settings(deadline=None, max_examples=20)
def test_any_cut_into_batches_leaves_the_same_series(
    batches: list[tuple[list[Mention], datetime]], policy: Policy
) -> None:
    whole, cut = Kept(policy), Kept(policy)
    whole.add(FEED, END)
    for documents, as_of in batches:
        cut.add(documents, as_of)
    assert cut.all() == whole.all()


@pytest.mark.parametrize("moved_to", [10.5, 60.5, 125.5])
def test_documents_that_are_dated_anew_leave_nothing_at_their_former_day(moved_to: float) -> None:
    policy = Policy(cool_down_hours=0, false_alarms_per_week=100)
    first = mention(99_999, -30.0, mood="negative")
    moved = replace(first, published_at=MONDAY + timedelta(days=moved_to))
    once, twice = Kept(policy), Kept(policy)
    once.add([*FEED, moved], END)
    twice.add([*FEED, first], END)
    twice.add([moved], END)
    assert twice.all() == once.all()


def test_a_series_that_grows_reads_the_mentions_of_its_last_weeks() -> None:
    policy = Policy(rules=())
    last = max(each.published_at for each in FEED)
    kept = Kept(policy)
    kept.add(FEED, END)
    kept.add([mention(99_999, DAYS - 0.1)], END)
    assert kept.read_from >= last - timedelta(weeks=3)


def test_an_alert_cites_documents_from_before_what_was_read() -> None:
    policy = Policy(rules=(AlertRule.SILENCE,))
    spoken = quiet(range(80), 3)
    kept = Kept(policy)
    kept.add(spoken, MONDAY + timedelta(days=81))
    kept.add([], MONDAY + timedelta(days=82))
    at_once = Kept(policy)
    at_once.add(spoken, MONDAY + timedelta(days=100))
    for day in range(83, 101):
        kept.add([], MONDAY + timedelta(days=day))
    assert at_once.alerts
    assert kept.alerts == at_once.alerts


@given(st.integers(0, DAYS), SIZES)
@settings(deadline=None, max_examples=20)
def test_what_was_published_before_the_past_needed_makes_no_difference(day: int, policy: Policy) -> None:
    since = MONDAY + timedelta(days=day)
    read_from = since - past_needed(policy)
    series = [
        compute_series(
            "acme-steel",
            memory_reader(mentions),
            SeriesUpdate(
                since=since,
                as_of=END,
                first_at=MONDAY - timedelta(days=200),
                policy=policy,
                num_entities=NUM_ENTITIES,
            ),
        )
        for mentions in (LONG, [m for m in LONG if m.published_at >= read_from])
    ]
    assert repr(series[0]) == repr(series[1])


def test_the_feed_of_the_cuts_has_something_to_find() -> None:
    kept = Kept(Policy())
    kept.add(FEED, END)
    assert {alert.rule for alert in kept.alerts.values()} >= {
        AlertRule.SURGE,
        AlertRule.SILENCE,
        AlertRule.REVERSAL,
    }
    assert max(novelty.number for _, novelty in kept.novelties.values()) > 2
