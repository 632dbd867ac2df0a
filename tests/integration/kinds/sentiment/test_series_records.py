"""Series that are committed together: a later reading stands, in whatever order they come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from kinds.sentiment.history import EntityHistory
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize
from kinds.sentiment.store.history import DatabaseHistory, write_records
from kinds.sentiment.store.monitors import get_monitor, new_id, put_monitor

DAY = datetime(2026, 3, 2, tzinfo=UTC)
READ_AT = datetime(2026, 3, 9, tzinfo=UTC)


@pytest.fixture
def monitor_id(database: Engine) -> UUID:
    monitor = Monitor(
        id=new_id(),
        tenant="default",
        name="markets",
        watchlist_sha256="0" * 64,
        num_entities=2,
        policy=Policy(),
        sources=(),
        targets=(),
        settings={},
        model="scripted",
    )
    with database.begin() as connection:
        return put_monitor(connection, monitor)


def window(entity_id: str, days: int, num_documents: int) -> EntityWindow:
    return EntityWindow(
        entity_id=entity_id,
        size=WindowSize.DAY,
        starts_at=DAY + timedelta(days=days),
        num_documents=num_documents,
        num_followups=0,
        num_positive=0,
        num_neutral=num_documents,
        num_negative=0,
        weight=num_documents * 50,
        weight_squared=num_documents * 2_500,
        weighted_score=0,
        mean_score=0.0,
        negative_share=0.0,
        negative_low=0.0,
        negative_high=0.5,
        trend=None,
        baseline_score=None,
        baseline_volume=None,
        change=None,
    )


def alert(entity_id: str, days: int) -> Alert:
    return Alert(
        entity_id=entity_id,
        rule=AlertRule.SURGE,
        size=WindowSize.DAY,
        starts_at=DAY + timedelta(days=days),
        statistic=4.0,
        p_value=1e-5,
        threshold=1e-4,
        observed=5.0,
        expected=1.0,
        document_ids=(),
    )


def reading(
    monitor_id: UUID, minute: int, windows: list[EntityWindow], alerts: list[Alert]
) -> tuple[UUID, EntityHistory]:
    history = EntityHistory(
        monitor_id=monitor_id,
        entity_id=windows[0].entity_id,
        read_at=READ_AT + timedelta(minutes=minute),
        since=DAY,
        policy=Policy(),
        change_number=None,
        novelties=(),
        windows=windows,
        alerts=alerts,
    )
    return uuid4(), history


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_the_later_of_two_readings_stands(
    database: Engine, monitor_id: UUID, turned: bool, together: bool
) -> None:
    earlier = reading(monitor_id, 0, [window("acme", 0, 1), window("acme", 1, 2)], [alert("acme", 1)])
    later = reading(monitor_id, 1, [window("acme", 0, 3)], [alert("acme", 0)])
    other = reading(monitor_id, 0, [window("borealis", 0, 4)], [alert("borealis", 0)])
    records = [later, other, earlier] if turned else [earlier, other, later]
    for group in [records] if together else [[one] for one in records]:
        with database.begin() as connection:
            write_records(connection, group)
    history = DatabaseHistory(database)
    whole = {"since": DAY, "until": DAY + timedelta(days=9)}
    found = history.windows(monitor_id, ["acme", "borealis"], WindowSize.DAY, **whole)
    assert {id_: [w.num_documents for w in some] for id_, some in found.items()} == {
        "acme": [3],
        "borealis": [4],
    }
    alerts = history.alerts(monitor_id, ["acme", "borealis"], **whole)
    assert {id_: [a.starts_at for a in some] for id_, some in alerts.items()} == {
        "acme": [DAY],
        "borealis": [DAY],
    }


def test_later_readings_keep_what_lies_before_their_begin(database: Engine, monitor_id: UUID) -> None:
    earlier = reading(monitor_id, 0, [window("acme", day, 1) for day in range(4)], [alert("acme", 3)])
    job_id, later = reading(monitor_id, 1, [window("acme", day, 2) for day in (2, 3)], [])
    later = replace(later, since=DAY + timedelta(days=2))
    for record in ((job_id, later), earlier):
        with database.begin() as connection:
            write_records(connection, [record])
    history = DatabaseHistory(database)
    whole = {"since": DAY, "until": DAY + timedelta(days=9)}
    (found,) = history.windows(monitor_id, ["acme"], WindowSize.DAY, **whole).values()
    assert [one.num_documents for one in found] == [1, 1, 2, 2]
    assert history.alerts(monitor_id, ["acme"], **whole) == {}


def test_a_series_by_a_former_policy_is_not_kept(database: Engine, monitor_id: UUID) -> None:
    by_former = reading(monitor_id, 0, [window("acme", 3, 1)], [alert("acme", 3)])
    moved = replace(get_monitor(database, monitor_id), policy=Policy(time_zone="Asia/Tokyo"))
    with database.begin() as connection:
        put_monitor(connection, moved)
    with database.begin() as connection:
        write_records(connection, [by_former])
    history = DatabaseHistory(database)
    assert history.last_window_at(monitor_id, ["acme"], [WindowSize.DAY]) == {}
    assert history.alerts(monitor_id, ["acme"], since=DAY, until=DAY + timedelta(days=9)) == {}
