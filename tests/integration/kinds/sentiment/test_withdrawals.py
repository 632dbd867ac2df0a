"""Alerts that late documents withdraw, or bring back: who was told of them is told that, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import pytest
from sqlalchemy import Engine

from kinds.sentiment.history import EntityHistory
from kinds.sentiment.monitor import AlertStatus, Notification
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import WindowSize
from kinds.sentiment.store import alerts, deliveries
from kinds.sentiment.store.series import DELIVERED_AGE, write_histories
from tests.hostile_server import HostileServer, Seen, hostile_server
from tests.integration.kinds.sentiment.test_delivery import (
    SECRET,
    VARIABLE,
    deliver,
    monitor_of,
    states,
    webhook,
)
from workers.delivery import FileTarget

NOW = datetime.now(UTC).replace(microsecond=0)
SURGE = Alert(
    entity_id="acme-steel",
    rule=AlertRule.SURGE,
    size=WindowSize.DAY,
    starts_at=NOW - timedelta(days=2),
    statistic=4.2,
    p_value=0.0001,
    threshold=0.001,
    observed=0.8,
    expected=0.2,
    document_ids=("d1", "d2"),
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv(VARIABLE, SECRET)
    with hostile_server() as running:
        yield running


class Readings:
    """Later and later readings of one entity, each of which finds that the alert stands or does not."""

    def __init__(self, database: Engine, monitor_id: UUID) -> None:
        self.age = timedelta()
        self._database = database
        self._monitor_id = monitor_id
        self._number = 0
        self.alert_id = uuid5(monitor_id, SURGE.key)

    def find(self, *, stands: bool) -> None:
        self._number += 1
        history = EntityHistory(
            monitor_id=self._monitor_id,
            entity_id=SURGE.entity_id,
            read_at=NOW + self.age + timedelta(seconds=self._number),
            since=NOW - timedelta(days=9),
            policy=Policy(),
            novelties=(),
            windows=(),
            change_number=None,
            alerts=(SURGE,) if stands else (),
        )
        with self._database.begin() as connection:
            write_histories(connection, [(uuid4(), history)])


def event(seen: Seen) -> str:
    return str(json.loads(seen.body)["type"])


def test_withdrawal_is_told_once_to_a_webhook_that_was_told_of_the_alert(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    deliver(database)
    readings.find(stands=False)
    deliver(database, rounds=3)
    readings.find(stands=False)
    deliver(database)

    assert [event(seen) for seen in server.seen] == ["alert.raised", "alert.withdrawn"]
    raised, withdrawn = (json.loads(seen.body) for seen in server.seen)
    assert withdrawn["data"] == raised["data"]
    assert withdrawn["id"] == server.seen[1].headers["webhook-id"] != raised["id"]
    assert withdrawn["timestamp"] > raised["timestamp"]
    assert states(database, readings.alert_id)["ops"].notified is Notification.WITHDRAWN


def test_alert_that_comes_back_is_told_again_with_an_id_of_its_own(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    for stands in (True, False, True, False):
        readings.find(stands=stands)
        deliver(database, rounds=2)

    assert [event(seen) for seen in server.seen] == ["alert.raised", "alert.withdrawn"] * 2
    assert len({seen.headers["webhook-id"] for seen in server.seen}) == 4


def test_nobody_is_told_of_what_came_and_went_before_it_was_delivered(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    readings.find(stands=False)
    deliver(database)
    assert server.seen == []

    readings.find(stands=True)
    deliver(database)
    readings.find(stands=False)
    readings.find(stands=True)
    deliver(database, rounds=2)
    assert [event(seen) for seen in server.seen] == ["alert.raised"]
    assert states(database, readings.alert_id)["ops"].ended_at is not None


def test_only_targets_that_had_the_alert_are_told_of_its_withdrawal(
    database: Engine, server: HostileServer, tmp_path: Path
) -> None:
    lines = tmp_path / "alerts.jsonl"
    file = FileTarget(name="lines", path=str(lines))
    readings = Readings(database, monitor_of(database, file, webhook(server, "/gone", name="gone")))
    server.statuses[:] = [410]
    readings.find(stands=True)
    deliver(database)
    readings.find(stands=False)
    deliver(database, rounds=2, wait=True)

    assert [json.loads(line)["type"] for line in lines.read_text().splitlines()] == [
        "alert.raised",
        "alert.withdrawn",
    ]
    assert len(server.seen) == 1
    assert states(database, readings.alert_id)["gone"].notified is None


def test_withdrawal_that_may_have_arrived_is_followed_by_the_alert_when_it_comes_back(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    deliver(database)
    server.statuses[:] = [500, 200]
    readings.find(stands=False)
    deliver(database)  # received, and answered with an error
    readings.find(stands=True)
    deliver(database)

    assert [event(seen) for seen in server.seen] == ["alert.raised", "alert.withdrawn", "alert.raised"]


def test_alert_that_is_withdrawn_while_it_is_being_told_is_told_as_withdrawn_too(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    (delivery,) = deliveries.due_deliveries(database, limit=10)
    assert deliveries.begin_attempt(database, delivery, retry_seconds=60)
    readings.find(stands=False)
    deliveries.record_notification(database, delivery)
    assert states(database, readings.alert_id)["ops"].notified is Notification.RAISED
    deliver(database, rounds=2)
    assert [event(seen) for seen in server.seen] == ["alert.withdrawn"]


def test_alert_that_is_told_late_by_another_notifier_is_told_again_when_it_comes_back(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    (delivery,) = deliveries.due_deliveries(database, limit=10)
    assert deliveries.begin_attempt(database, delivery, retry_seconds=60)
    readings.find(stands=False)
    deliver(database)  # the first message may be there by now, or still come, or never
    assert [event(seen) for seen in server.seen] == ["alert.withdrawn"]

    deliveries.record_notification(database, delivery)
    deliver(database, rounds=2)
    assert len(server.seen) == 1
    readings.find(stands=True)
    deliver(database)
    assert [event(seen) for seen in server.seen] == ["alert.withdrawn", "alert.raised"]


def test_alert_that_may_have_arrived_is_told_as_withdrawn_too(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    server.statuses[:] = [500, 200]
    readings.find(stands=True)
    deliver(database)  # received, and answered with an error
    readings.find(stands=False)
    deliver(database, rounds=3, wait=True)
    assert [event(seen) for seen in server.seen] == ["alert.raised", "alert.withdrawn"]
    assert states(database, readings.alert_id)["ops"].notified is Notification.WITHDRAWN

    readings.find(stands=True)
    deliver(database)
    assert [event(seen) for seen in server.seen[2:]] == ["alert.raised"]
    assert len({seen.headers["webhook-id"] for seen in server.seen}) == 3


def test_alert_that_is_withdrawn_after_a_notifier_saw_it_is_not_told(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    (seen_open,) = deliveries.due_deliveries(database, limit=10)
    readings.find(stands=False)
    assert not deliveries.begin_attempt(database, seen_open, retry_seconds=60)
    deliver(database)
    assert server.seen == []

    readings.find(stands=True)
    deliver(database, rounds=2)
    assert [event(seen) for seen in server.seen] == ["alert.raised"]


def test_nobody_is_told_that_an_old_alert_is_withdrawn_or_comes_back(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    deliver(database)
    readings.age = DELIVERED_AGE
    for stands in (False, True, False):
        readings.find(stands=stands)
        deliver(database, rounds=2)

    assert [event(seen) for seen in server.seen] == ["alert.raised"]
    assert alerts.get_alert(database, readings.alert_id)[0].status is AlertStatus.WITHDRAWN
    assert states(database, readings.alert_id)["ops"].notified is Notification.RAISED


def test_old_alert_that_nobody_was_told_of_is_not_told_when_it_comes_back(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    readings.find(stands=False)
    readings.age = DELIVERED_AGE
    readings.find(stands=True)
    deliver(database)

    assert server.seen == []
    assert states(database, readings.alert_id)["ops"].error_code == "too_old"


def test_old_alert_whose_withdrawal_may_have_arrived_is_set_right(
    database: Engine, server: HostileServer
) -> None:
    readings = Readings(database, monitor_of(database, webhook(server)))
    readings.find(stands=True)
    deliver(database)
    server.statuses[:] = [500, 200]
    readings.find(stands=False)
    deliver(database)
    readings.age = DELIVERED_AGE
    readings.find(stands=True)
    deliver(database, rounds=2)

    assert [event(seen) for seen in server.seen] == ["alert.raised", "alert.withdrawn", "alert.raised"]


def test_mute_keeps_withdrawals_quiet_too(database: Engine, server: HostileServer) -> None:
    monitor_id = monitor_of(database, webhook(server))
    readings = Readings(database, monitor_id)
    readings.find(stands=True)
    deliver(database)
    alerts.mute(database, monitor_id, entity_id=None, rule=None, until=None)
    readings.find(stands=False)
    deliver(database)

    assert [event(seen) for seen in server.seen] == ["alert.raised"]
    assert states(database, readings.alert_id)["ops"].error_code == "muted"
