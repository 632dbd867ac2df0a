"""Each rule on a feed with its change and on feeds that only resemble it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kinds.sentiment.series.counts import memory_reader
from kinds.sentiment.series.detection import TESTS_PER_WINDOW, thresholds
from kinds.sentiment.series.entity_series import SeriesUpdate, compute_series
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import WindowSize
from tests.unit.kinds.sentiment.series.feed import MONDAY, mention, quiet

POLICY = Policy()
TURN = 100
CALM = quiet(range(TURN), 4, seed=1)


def alerts(mentions: list[Mention], days: int, policy: Policy = POLICY) -> list[Alert]:
    first_at = min(each.published_at for each in mentions)
    return list(
        compute_series(
            "acme-steel",
            memory_reader(mentions),
            SeriesUpdate(
                since=first_at,
                as_of=MONDAY + timedelta(days=days),
                first_at=first_at,
                policy=policy,
                num_entities=36,
            ),
        ).alerts
    )


def rules(found: list[Alert]) -> set[AlertRule]:
    return {alert.rule for alert in found}


def day_of(alert: Alert) -> int:
    return (alert.starts_at - MONDAY).days


def after_calm(days: int, per_day: int, moods: str) -> list[Mention]:
    return quiet(range(TURN, TURN + days), per_day, seed=2, moods=moods, first_number=10_000)


def test_a_quiet_feed_raises_nothing() -> None:
    assert alerts(CALM, TURN) == []


def test_a_surge_is_told_on_its_first_day_with_its_negative_documents() -> None:
    surge = after_calm(3, 14, "nnnnno")
    (alert,) = [a for a in alerts(CALM + surge, TURN + 3) if a.rule is AlertRule.SURGE]
    negative = {
        m.document_id for m in surge if m.published_at < MONDAY + timedelta(days=TURN + 1) and m.score < 0
    }
    assert day_of(alert) == TURN
    assert alert.p_value < alert.threshold
    assert alert.observed == len(negative)
    assert alert.observed > 3 * alert.expected
    assert len(alert.document_ids) == 8
    assert set(alert.document_ids) <= negative


def test_a_busy_day_of_the_usual_mixture_is_no_surge() -> None:
    assert alerts(CALM + after_calm(3, 14, "nnoooppp"), TURN + 3) == []


def test_copies_of_one_negative_report_are_no_surge() -> None:
    flood = [
        mention(10_000 + n, TURN + n / 100, mood="negative", text=5, num_changed=n % 10) for n in range(60)
    ]
    assert AlertRule.SURGE not in rules(alerts(CALM + flood, TURN + 1))


def test_a_silence_is_told_once_and_cites_the_last_documents_before_it() -> None:
    (alert,) = alerts(CALM, TURN + 60)
    assert alert.rule is AlertRule.SILENCE
    assert TURN + 1 <= day_of(alert) <= TURN + 6
    assert (alert.observed, alert.document_ids[0]) == (
        0,
        max(CALM, key=lambda each: each.published_at).document_id,
    )


def test_weekends_without_documents_are_no_silence() -> None:
    working_days = [m for m in quiet(range(140), 8, seed=4) if m.published_at.weekday() < 5]
    assert alerts(working_days, 140) == []


def test_an_entity_that_is_seldom_mentioned_is_not_silent_for_two_weeks() -> None:
    seldom = [mention(n, 6.3 * n) for n in range(15)]
    assert alerts(seldom, 15 * 6 + 14) == []


def test_a_turn_for_the_better_that_lasts_is_a_reversal() -> None:
    gloomy = quiet(range(TURN), 4, seed=6, moods="nnnoop")
    found = alerts(gloomy + after_calm(20, 4, "ppppon"), TURN + 20)
    assert rules(found) == {AlertRule.REVERSAL}
    assert found[0].expected < 0 < found[0].observed
    assert day_of(found[0]) < TURN + 10


def test_a_mood_that_worsens_over_weeks_is_a_slide() -> None:
    weeks = ["noooppp", "nnoooopp", "nnnooop", "nnnnoop", "nnnnnoo", "nnnnnnn"]
    slide = [
        each
        for week, moods in enumerate(weeks)
        for each in quiet(
            range(TURN + 7 * week, TURN + 7 * week + 7),
            6,
            seed=week,
            moods=moods,
            first_number=20_000 + 100 * week,
        )
    ]
    found = [a for a in alerts(CALM + slide, TURN + 42) if a.rule is AlertRule.SLIDE]
    assert found
    assert found[0].observed < found[0].expected
    assert day_of(found[0]) >= TURN + 10


def test_no_rule_speaks_in_the_first_four_weeks() -> None:
    bad = quiet(range(20), 2, moods="ppp") + quiet(range(20, 28), 20, moods="nnn", first_number=900)
    assert alerts(bad, 28) == []


def test_a_day_is_judged_when_it_has_ended() -> None:
    surge = after_calm(1, 20, "nnnnn")
    first_at = CALM[0].published_at
    for hours, expected in ((23.9, set()), (24.0, {AlertRule.SURGE})):
        as_of = MONDAY + timedelta(days=TURN, hours=hours)
        found = compute_series(
            "acme-steel",
            memory_reader(CALM + surge),
            SeriesUpdate(
                since=first_at,
                as_of=as_of,
                first_at=first_at,
                policy=POLICY,
                num_entities=36,
            ),
        )
        assert rules(list(found.alerts)) == expected


def test_what_comes_later_changes_no_alert() -> None:
    whole = (
        CALM + after_calm(5, 14, "nnnnno") + quiet(range(TURN + 5, TURN + 30), 4, seed=9, first_number=30_000)
    )
    for days in (TURN + 1, TURN + 4, TURN + 12):
        until = MONDAY + timedelta(days=days)
        seen = [each for each in whole if each.published_at < until]
        assert alerts(seen, days) == [a for a in alerts(whole, TURN + 30) if day_of(a) < days]


def test_a_second_surge_within_the_cool_down_is_not_told_and_after_it_is() -> None:
    first, second = after_calm(1, 20, "nnnnn"), quiet([TURN + 12], 60, seed=8, moods="n", first_number=40_000)
    between = quiet(range(TURN + 1, TURN + 12), 4, seed=7, first_number=50_000)
    policy = Policy(rules=(AlertRule.SURGE,))
    for hours, days in ((72.0, [TURN, TURN + 12]), (24.0 * 12, [TURN])):
        found = alerts(
            CALM + first + between + second, TURN + 13, policy.model_copy(update={"cool_down_hours": hours})
        )
        assert [day_of(alert) for alert in found] == days


def test_a_silence_that_goes_on_is_told_once_by_weeks_too() -> None:
    week = Policy(windows=(WindowSize.WEEK,), alert_window=WindowSize.WEEK, rules=(AlertRule.SILENCE,))
    each = week.model_copy(update={"cool_down_hours": 0.0})
    assert [day_of(alert) for alert in alerts(CALM, TURN + 33, week)] == [TURN + 5]
    assert [day_of(alert) for alert in alerts(CALM, TURN + 33, each)] == list(range(TURN + 5, TURN + 33, 7))


def test_the_budget_is_shared_by_rules_entities_and_windows() -> None:
    given = thresholds(Policy(false_alarms_per_week=1.0), 10)
    for rule, threshold in given.items():
        assert threshold * 7 * 10 * TESTS_PER_WINDOW[rule] == pytest.approx(0.25)
    hourly = Policy(windows=(WindowSize.HOUR,), alert_window=WindowSize.HOUR)
    assert thresholds(hourly, 10)[AlertRule.SURGE] == pytest.approx(given[AlertRule.SURGE] / 24 / 2)


def test_a_larger_watch_list_and_a_smaller_budget_ask_for_more() -> None:
    surge = after_calm(1, 10, "nnnnnno")
    assert rules(alerts(CALM + surge, TURN + 1)) == {AlertRule.SURGE}
    assert alerts(CALM + surge, TURN + 1, Policy(false_alarms_per_week=1e-9)) == []


def test_alert_windows_must_be_kept() -> None:
    with pytest.raises(ValueError, match="add it to windows"):
        Policy(windows=(WindowSize.WEEK,))


def test_an_hour_that_an_alert_speaks_of_has_a_window_though_nothing_was_said_in_it() -> None:
    busy = quiet(range(40), 60, seed=1)
    policy = Policy(windows=(WindowSize.HOUR,), alert_window=WindowSize.HOUR)
    first_at = min(each.published_at for each in busy)
    analysis = compute_series(
        "acme-steel",
        memory_reader(busy),
        SeriesUpdate(
            since=first_at,
            as_of=MONDAY + timedelta(days=42),
            first_at=first_at,
            policy=policy,
            num_entities=36,
        ),
    )
    empty = {window.starts_at for window in analysis.windows if not window.num_documents}
    silences = {alert.starts_at for alert in analysis.alerts if alert.rule is AlertRule.SILENCE}
    assert silences
    assert silences <= empty
    assert len(empty) < 24
