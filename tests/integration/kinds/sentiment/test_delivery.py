"""Alerts delivered to real files and a real web server: none lost, none with two ids."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import pytest
from sqlalchemy import Engine, insert, select, text, update
from standardwebhooks import Webhook

from jobs.errors import PressroomError
from kinds.sentiment.alerts.notifier import RETRY_SECONDS, Notifier
from kinds.sentiment.monitor import AlertStatus, Monitor
from kinds.sentiment.series.policy import AlertRule, Policy
from kinds.sentiment.series.time_windows import WindowSize
from kinds.sentiment.store import alerts, deliveries, monitors
from kinds.sentiment.tables import AlertRow, DeliveryRow, MentionRow
from tests.hostile_server import HostileServer, hostile_server
from workers.delivery import FileTarget, Target, WebhookTarget
from workers.webhooks import send_webhook

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
VARIABLE = "ALERT_SECRET"
DAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv(VARIABLE, SECRET)
    with hostile_server() as running:
        yield running


def monitor_of(database: Engine, *targets: Target) -> UUID:
    monitor = Monitor(
        id=monitors.new_id(),
        tenant="default",
        name="steel",
        watchlist_sha256="0" * 64,
        num_entities=1,
        policy=Policy(),
        sources=(),
        targets=targets,
        settings={},
        model="finance-sentiment",
    )
    with database.begin() as connection:
        return monitors.put_monitor(connection, monitor)


def alert(
    database: Engine,
    monitor_id: UUID,
    targets: Sequence[str],
    *,
    day: int = 0,
    entity: str = "acme-steel",
    rule: AlertRule = AlertRule.SURGE,
) -> UUID:
    """An alert with its pending deliveries, as a job's records leave it."""
    starts_at = DAY + timedelta(days=day)
    key = f"{entity}/{rule}/day/{starts_at:%Y-%m-%d}"
    alert_id = uuid5(monitor_id, key)
    with database.begin() as connection:
        connection.execute(
            insert(AlertRow).values(
                id=alert_id,
                monitor_id=monitor_id,
                key=key,
                entity_id=entity,
                rule=rule,
                size=WindowSize.DAY,
                starts_at=starts_at,
                statistic=4.2,
                p_value=0.0001,
                threshold=0.001,
                observed=0.8,
                expected=0.2,
                document_ids=["d1", "d2"],
                status=AlertStatus.OPEN,
                read_at=starts_at,
                job_id=uuid4(),
            )
        )
        connection.execute(
            insert(DeliveryRow), [{"alert_id": alert_id, "target": target} for target in targets]
        )
    return alert_id


def webhook(server: HostileServer, path: str = "/alerts", *, name: str = "ops") -> WebhookTarget:
    return WebhookTarget(name=name, url=server.url(path), secret_variable=VARIABLE, allow_private=True)


def deliver(database: Engine, *, rounds: int = 1, wait: bool = False) -> None:
    """Rounds of the notifier; `wait` lets the backoff of what failed pass before each."""
    notifier = Notifier(database)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(rounds):
            if wait:
                with database.begin() as connection:
                    connection.execute(text("UPDATE deliveries SET due_at = now() - interval '1 second'"))
            notifier.deliver_due(pool)


def states(database: Engine, alert_id: UUID) -> dict[str, alerts.DeliveryState]:
    return {state.target: state for state in alerts.get_alert(database, alert_id)[1]}


def test_alert_is_delivered_once_signed_and_with_its_documents(
    database: Engine, server: HostileServer
) -> None:
    monitor_id = monitor_of(database, webhook(server))
    alert_id = alert(database, monitor_id, ["ops"])
    with database.begin() as connection:
        connection.execute(
            insert(MentionRow).values(
                monitor_id=monitor_id,
                entity_id="acme-steel",
                document_id="d1",
                published_at=DAY,
                relevance=90,
                p_negative=0.9,
                p_neutral=0.1,
                p_positive=0.0,
                sentence="Orders fell — again.",
                title="Acme cuts",
                source="wire",
                signature=b"",
            )
        )
    deliver(database, rounds=3)

    (seen,) = server.seen
    body = Webhook(SECRET).verify(seen.body, dict(seen.headers))
    assert body["type"] == "alert.raised"
    assert body["data"]["alert_id"] == str(alert_id)
    assert body["data"]["documents"][0]["sentence"] == "Orders fell — again."
    assert body["data"]["document_ids"] == ["d1", "d2"]
    assert states(database, alert_id)["ops"].ended_at is not None
    assert states(database, alert_id)["ops"].error_code is None


def test_message_keeps_its_id_over_retries(database: Engine, server: HostileServer) -> None:
    server.statuses[:] = [500, 429, 200]
    alert_id = alert(database, monitor_of(database, webhook(server)), ["ops"])
    deliver(database, rounds=4, wait=True)

    assert len(server.seen) == 3
    assert len({seen.headers["webhook-id"] for seen in server.seen}) == 1
    assert len({seen.body for seen in server.seen}) == 1
    state = states(database, alert_id)["ops"]
    assert (state.num_attempts, state.error_code) == (3, None)


def test_failed_delivery_is_not_tried_before_its_time(database: Engine, server: HostileServer) -> None:
    server.statuses[:] = [503]
    alert_id = alert(database, monitor_of(database, webhook(server)), ["ops"])
    deliver(database, rounds=3)

    assert len(server.seen) == 1
    state = states(database, alert_id)["ops"]
    assert (state.error_code, state.ended_at) == ("webhook_status", None)


def test_delivery_is_given_up_after_three_days_of_attempts(database: Engine, server: HostileServer) -> None:
    server.statuses[:] = [500]
    alert_id = alert(database, monitor_of(database, webhook(server)), ["ops"])
    deliver(database, rounds=len(RETRY_SECONDS) + 5, wait=True)

    assert len(server.seen) == len(RETRY_SECONDS) + 1
    assert sum(RETRY_SECONDS) > 3 * 86_400
    state = states(database, alert_id)["ops"]
    assert state.error_code == "webhook_status"
    assert state.ended_at is not None


@pytest.mark.attack("webhook to a private address or with a redirect")
@pytest.mark.parametrize(("status", "code"), [(410, "webhook_gone"), (302, "webhook_redirect")])
def test_refusal_ends_a_delivery_at_once(
    database: Engine, server: HostileServer, status: int, code: str
) -> None:
    server.statuses[:] = [status]
    alert_id = alert(database, monitor_of(database, webhook(server)), ["ops"])
    deliver(database, rounds=3, wait=True)

    assert len(server.seen) == 1
    state = states(database, alert_id)["ops"]
    assert state.error_code == code
    assert state.ended_at is not None


@pytest.mark.attack("webhook to a private address or with a redirect")
@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://localhost:1/",
    ],
)
def test_webhook_to_a_private_address_is_refused(
    database: Engine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    target = WebhookTarget(name="ops", url=url, secret_variable=VARIABLE)
    alert_id = alert(database, monitor_of(database, target), ["ops"])
    deliver(database)

    state = states(database, alert_id)["ops"]
    assert state.error_code == "webhook_private_address"
    assert state.ended_at is not None


@pytest.mark.attack("webhook to a private address or with a redirect")
def test_webhook_whose_name_rebinds_is_called_where_it_was_checked(server: HostileServer) -> None:
    answers = iter([["127.0.0.1"]])
    target = webhook(server).model_copy(update={"url": server.url("/alerts", host="ops.example")})
    send_webhook(target, message_id="msg_1", body="{}", resolver=lambda host, port: next(answers))
    assert server.seen[0].headers["host"] == f"ops.example:{server.port}"


@pytest.mark.parametrize(
    ("secret", "code"), [("", "webhook_secret_missing"), ("whsec_", "webhook_secret_invalid")]
)
def test_alert_waits_for_a_secret_that_is_not_there(
    database: Engine, server: HostileServer, secret: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, secret)
    monitor_id = monitor_of(database, webhook(server))
    alert_id = alert(database, monitor_id, ["ops"])
    deliver(database)
    assert states(database, alert_id)["ops"].error_code == code
    [waiting] = deliveries.waiting(database, monitor_id)
    assert (waiting.target, waiting.number, waiting.error_code) == ("ops", 1, code)

    monkeypatch.setenv(VARIABLE, SECRET)
    deliver(database, wait=True)
    assert states(database, alert_id)["ops"].error_code is None
    assert len(server.seen) == 1
    assert deliveries.waiting(database, monitor_id) == []


def test_webhook_in_a_variable_is_called_whole_and_a_missing_one_holds_up_no_other(
    database: Engine, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPS_URL", raising=False)
    hidden = WebhookTarget(name="ops", url_variable="OPS_URL", secret_variable=VARIABLE, allow_private=True)
    alert_id = alert(database, monitor_of(database, hidden, webhook(server, name="b")), ["ops", "b"])
    deliver(database)
    state = states(database, alert_id)["ops"]
    assert (state.error_code, state.ended_at) == ("webhook_url_missing", None)
    assert "OPS_URL" in (state.error_message or "")
    assert len(server.seen) == 1

    monkeypatch.setenv("OPS_URL", server.url("/hook/SECRET?key=SECRET"))
    server.statuses[:] = [500, 200]
    deliver(database, wait=True)
    said = states(database, alert_id)["ops"].error_message or ""
    assert "OPS_URL" in said
    assert "SECRET" not in said
    deliver(database, wait=True)
    assert server.seen[-1].path == "/hook/SECRET?key=SECRET"
    assert states(database, alert_id)["ops"].error_code is None


def test_target_that_is_down_does_not_hold_up_another(
    database: Engine, server: HostileServer, tmp_path: Path
) -> None:
    down = WebhookTarget(name="down", url="http://127.0.0.1:1/", secret_variable=VARIABLE, allow_private=True)
    lines = FileTarget(name="lines", path=str(tmp_path / "alerts.jsonl"))
    monitor_id = monitor_of(database, down, webhook(server), lines)
    ids = [alert(database, monitor_id, ["down", "ops", "lines"], day=day) for day in range(5)]
    deliver(database)

    assert len(server.seen) == 5
    written = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert [line["data"]["alert_id"] for line in written] == [str(id_) for id_ in ids]
    attempts = [states(database, id_)["down"].num_attempts for id_ in ids]
    assert attempts == [1, 0, 0, 0, 0]  # one told that it is down; the others wait, uncounted


def test_backlog_of_one_target_leaves_room_for_another(database: Engine, server: HostileServer) -> None:
    monitor_id = monitor_of(database, webhook(server, name="many"), webhook(server, name="one"))
    for day in range(12):
        alert(database, monitor_id, ["many"], day=day)
    last = alert(database, monitor_id, ["one"], day=12)

    due = deliveries.due_deliveries(database, limit=200, limit_per_target=5)
    assert [delivery.target_name for delivery in due].count("many") == 5
    assert last in {delivery.alert_id for delivery in due}
    deliver(database, rounds=3)
    assert len(server.seen) == 13


def test_line_that_was_written_before_a_crash_is_not_written_again(database: Engine, tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    alert_id = alert(database, monitor_of(database, FileTarget(name="lines", path=str(path))), ["lines"])
    deliver(database)
    with database.begin() as connection:  # as if it had died before it could say so
        connection.execute(update(DeliveryRow).values(ended_at=None, notified=None))
    deliver(database, wait=True)

    assert len(path.read_text().splitlines()) == 1
    assert states(database, alert_id)["lines"].ended_at is not None


def test_line_that_was_torn_by_a_crash_is_written_whole_on_a_line_of_its_own(
    database: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "alerts.jsonl"
    monitor_id = monitor_of(database, FileTarget(name="lines", path=str(path)))
    alert(database, monitor_id, ["lines"])
    deliver(database)
    whole = path.read_text()
    path.write_text(whole[:100])
    with database.begin() as connection:
        connection.execute(update(DeliveryRow).values(ended_at=None, notified=None))
    deliver(database, wait=True)

    assert path.read_text() == f"{whole[:100]}\n{whole}"


def test_muted_alert_is_kept_and_not_delivered(database: Engine, server: HostileServer) -> None:
    monitor_id = monitor_of(database, webhook(server))
    mute_id = alerts.mute(database, monitor_id, entity_id="acme-steel", rule=None, until=None)
    muted = alert(database, monitor_id, ["ops"])
    unmuted = alert(database, monitor_id, ["ops"], entity="other-steel")
    deliver(database)

    assert states(database, muted)["ops"].error_code == "muted"
    assert states(database, unmuted)["ops"].error_code is None
    assert len(server.seen) == 1
    assert [one.is_muted for one in alerts.list_alerts(database)] == [True, False]
    alerts.unmute(database, mute_id)
    later = alert(database, monitor_id, ["ops"], day=1)
    deliver(database)
    assert states(database, later)["ops"].error_code is None


def test_mute_of_a_rule_that_has_run_out_mutes_nothing(database: Engine, server: HostileServer) -> None:
    monitor_id = monitor_of(database, webhook(server))
    alerts.mute(database, monitor_id, entity_id=None, rule=AlertRule.SURGE, until=DAY)
    alerts.mute(database, monitor_id, entity_id=None, rule=AlertRule.SILENCE, until=None)
    alert(database, monitor_id, ["ops"])
    deliver(database)

    assert len(server.seen) == 1
    assert len(alerts.list_mutes(database)) == 1


def test_withdrawn_alert_waits_and_is_delivered_if_it_comes_back(
    database: Engine, server: HostileServer
) -> None:
    alert_id = alert(database, monitor_of(database, webhook(server)), ["ops"])
    set_status(database, alert_id, AlertStatus.WITHDRAWN)
    deliver(database)
    assert server.seen == []

    set_status(database, alert_id, AlertStatus.OPEN)
    deliver(database)
    assert len(server.seen) == 1


def set_status(database: Engine, alert_id: UUID, status: AlertStatus) -> None:
    with database.begin() as connection:
        connection.execute(update(AlertRow).where(AlertRow.id == alert_id).values(status=status))


def test_target_that_was_removed_ends_its_deliveries(database: Engine) -> None:
    alert_id = alert(database, monitor_of(database), ["ops"])
    deliver(database)
    assert states(database, alert_id)["ops"].error_code == "target_removed"


def test_delivery_that_another_notifier_has_begun_is_left_to_it(
    database: Engine, server: HostileServer
) -> None:
    alert(database, monitor_of(database, webhook(server)), ["ops"])
    (seen_by_both,) = deliveries.due_deliveries(database, limit=10)
    assert deliveries.begin_attempt(database, seen_by_both, retry_seconds=5)
    assert not deliveries.begin_attempt(database, seen_by_both, retry_seconds=5)


def test_alert_is_acknowledged_with_a_note_and_a_withdrawn_one_stays_withdrawn(database: Engine) -> None:
    monitor_id = monitor_of(database)
    alert_id = alert(database, monitor_id, ["ops"])
    seen = alerts.acknowledge(database, alert_id, note="calling them")
    assert (seen.status, seen.note) == (AlertStatus.ACKNOWLEDGED, "calling them")
    assert alerts.acknowledge(database, alert_id).note == "calling them"

    other = alert(database, monitor_id, ["ops"], day=1)
    set_status(database, other, AlertStatus.WITHDRAWN)
    assert alerts.acknowledge(database, other).status is AlertStatus.WITHDRAWN
    with pytest.raises(PressroomError, match="no alert"):
        alerts.acknowledge(database, uuid4())
    with database.connect() as connection:
        assert connection.scalar(select(AlertRow.acknowledged_at).where(AlertRow.id == alert_id)) is not None
