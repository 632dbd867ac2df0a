from __future__ import annotations

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.sentiment.series.counts import memory_reader
from kinds.sentiment.series.entity_series import SeriesUpdate, compute_series
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.replay import Event, ReplayedAlert, replay, score_alerts, watched_weeks
from kinds.sentiment.series.time_windows import WindowSize
from tests.unit.kinds.sentiment.series.feed import MONDAY, mention, quiet

POLICY = Policy(windows=(WindowSize.DAY,))
FEED = (
    quiet(range(60), 4, seed=1)
    + quiet(range(60, 62), 14, seed=2, moods="nnnnno", first_number=1000)
    + quiet(range(62, 75), 4, seed=3, first_number=2000)
)
NUM_DAYS = 82


def day(number: float) -> datetime:
    return MONDAY + timedelta(days=number)


def analysed(mentions: list[Mention], as_of: datetime, policy: Policy = POLICY) -> list[Alert]:
    first_at = min(each.published_at for each in mentions)
    series = compute_series(
        "acme-steel",
        memory_reader(mentions),
        SeriesUpdate(
            since=first_at,
            as_of=as_of,
            first_at=first_at,
            policy=policy,
            num_entities=36,
        ),
    )
    return list(series.alerts)


def test_events_before_the_first_document_or_after_the_last_are_outside() -> None:
    event = Event(entity_id="acme-steel", starts_at=day(10), ends_at=day(12))
    spans = [(day(0), day(9)), (day(13), day(20)), (None, None), (day(0), day(10)), (day(12), day(20))]
    assert [event.is_outside(*span) for span in spans] == [True, True, True, False, False]


def replayed(
    received_at: dict[str, datetime] | None = None, mentions: list[Mention] = FEED, days: int = NUM_DAYS
) -> list[ReplayedAlert]:
    return replay(
        {"acme-steel": mentions}, policy=POLICY, num_entities=36, until=day(days), received_at=received_at
    )


def test_a_replay_of_documents_in_time_says_what_one_analysis_says() -> None:
    found = replayed()
    assert {each.alert.rule for each in found} == {AlertRule.SURGE, AlertRule.SILENCE}
    assert [each.alert for each in found] == analysed(FEED, day(NUM_DAYS))
    assert all(each.raised_at == each.alert.starts_at + timedelta(days=1) for each in found)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=4)
def test_a_replay_is_what_an_analysis_at_the_end_of_every_day_says(seed: int) -> None:
    chance = random.Random(seed)
    late = {
        each.document_id: each.published_at + timedelta(days=chance.choice((0.2, 1, 3, 30)))
        for each in FEED
        if each.published_at >= day(55) and chance.random() < 0.3
    }
    raised: dict[str, datetime] = {}
    withdrawn: list[tuple[str, datetime, datetime]] = []
    last: list[Alert] = []
    for end in range(50, NUM_DAYS + 1):
        seen = [m for m in FEED if late.get(m.document_id, m.published_at) < day(end)]
        last = analysed(seen, day(end))
        keys = {alert.key for alert in last}
        withdrawn += [(key, raised.pop(key), day(end)) for key in list(raised) if key not in keys]
        for key in keys - raised.keys():
            raised[key] = day(end)
    found = replayed(late)
    standing = [each for each in found if each.withdrawn_at is None]
    assert sorted((each.alert for each in standing), key=lambda a: a.key) == sorted(last, key=lambda a: a.key)
    assert {each.alert.key: each.raised_at for each in standing} == raised
    assert sorted(
        (each.alert.key, each.raised_at, each.withdrawn_at) for each in found if each.withdrawn_at is not None
    ) == sorted(withdrawn)


def test_a_surge_whose_documents_come_late_is_raised_when_they_come() -> None:
    late = {each.document_id: day(65.5) for each in FEED if day(60) <= each.published_at < day(62)}
    (surge,) = [each for each in replayed(late) if each.alert.rule is AlertRule.SURGE]
    assert surge.alert.starts_at == day(60)
    assert surge.raised_at == day(66)


def test_a_silence_that_late_documents_fill_is_withdrawn() -> None:
    filled = FEED + quiet(range(75, 82), 4, seed=5, first_number=3000)
    late = {each.document_id: day(81.5) for each in filled if each.published_at >= day(75)}
    (silence,) = [each for each in replayed(late, filled) if each.alert.rule is AlertRule.SILENCE]
    assert (silence.raised_at, silence.withdrawn_at) == (min(silence.raised_at, day(81)), day(82))


def test_without_an_end_the_replay_ends_with_the_day_of_the_last_document() -> None:
    surge = quiet([60], 20, seed=2, moods="nnnnn", first_number=1000)
    feed = [*quiet(range(60), 4, seed=1), *surge]
    (found,) = replay({"acme-steel": feed}, policy=POLICY, num_entities=36)
    assert found.raised_at == day(61)
    assert replay({}, policy=POLICY, num_entities=36) == []
    assert replay({"acme-steel": feed}, policy=POLICY, num_entities=36, until=day(60.9)) == []


def test_days_of_the_replay_are_those_of_the_time_zone() -> None:
    policy = Policy(windows=(WindowSize.DAY,), time_zone="America/New_York")
    (surge, *_) = replay({"acme-steel": FEED}, policy=policy, num_entities=36)
    assert surge.raised_at.astimezone(ZoneInfo("America/New_York")).hour == 0


def entry(rule: AlertRule, raised: float, entity_id: str = "acme-steel") -> ReplayedAlert:
    alert = Alert(
        entity_id=entity_id,
        rule=rule,
        size=WindowSize.DAY,
        starts_at=day(raised - 1),
        statistic=0.0,
        p_value=0.0,
        threshold=0.0,
        observed=0.0,
        expected=0.0,
        document_ids=(),
    )
    return ReplayedAlert(alert=alert, raised_at=day(raised))


def event(kind: AlertRule | None, starts: float, ends: float, entity_id: str = "acme-steel") -> Event:
    return Event(entity_id=entity_id, kind=kind, starts_at=day(starts), ends_at=day(ends))


def test_scores_count_caught_noticed_and_false() -> None:
    alerts = [
        entry(AlertRule.SURGE, 12),
        entry(AlertRule.REVERSAL, 14),
        entry(AlertRule.SURGE, 50),
        entry(AlertRule.SURGE, 12, "other"),
    ]
    events = [event(AlertRule.SURGE, 10, 13), event(AlertRule.SLIDE, 9, 30), event(AlertRule.SILENCE, 80, 90)]
    result = score_alerts(alerts, events, num_weeks=10)
    assert (result.num_alerts, result.num_false, result.num_caught) == (4, 2, 1)
    assert result.precision == 0.5
    assert result.recall == 1 / 3
    assert result.recall_any == 2 / 3
    assert result.median_delay_days == 2
    assert result.false_alarms_per_week == 0.2
    assert result.by_rule[AlertRule.SURGE].num_false == 2
    assert result.false_keys == (alerts[2].alert.key, alerts[3].alert.key)


def test_an_event_without_a_kind_is_caught_by_any_rule_within_the_grace() -> None:
    for raised, caught in ((9.9, 0), (10.1, 1), (20, 1), (20.1, 0)):
        assert (
            score_alerts([entry(AlertRule.SLIDE, raised)], [event(None, 10, 13)], num_weeks=1).num_caught
            == caught
        )


def test_shares_of_nothing_are_none() -> None:
    result = score_alerts([], [], num_weeks=0)
    assert (result.precision, result.recall, result.false_alarms_per_week) == (None, None, None)
    assert watched_weeks(day(0), day(42)) == 2
    assert watched_weeks(day(0), day(20)) == 0


def test_a_late_copy_changes_who_was_first() -> None:
    pair = [mention(1, 1, text=4), mention(2, 2, text=4)]
    first = mention(3, 0.5, text=4)
    series = compute_series(
        "acme-steel",
        memory_reader([*pair, first]),
        SeriesUpdate(
            since=first.published_at,
            as_of=day(3),
            first_at=first.published_at,
            policy=POLICY,
            num_entities=1,
        ),
    )
    assert [(each.number, each.first_id) for each in series.novelties] == [
        (1, "d000003"),
        (2, "d000003"),
        (3, "d000003"),
    ]
