"""What a command that ran a monitor by hand does about its alerts before it ends."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, update

from db.session import opened_database
from db.tables import ScheduleRow
from kinds.sentiment.alerts.delivery import deliver_alerts
from kinds.sentiment.alerts.notifier import NOTIFIER
from tests.factories import wait_until
from tests.hostile_server import HostileServer
from tests.integration.kinds.sentiment.test_delivery import (
    SECRET,
    VARIABLE,
    alert,
    monitor_of,
    states,
    webhook,
)
from tests.integration.kinds.sentiment.test_delivery import server as server
from workers.delivery import FileTarget, WebhookTarget
from workers.lead import Lead


@pytest.fixture
def lines(tmp_path: Path) -> FileTarget:
    return FileTarget(name="lines", path=str(tmp_path / "alerts.jsonl"))


@pytest.fixture
def other_lead(database: Engine) -> Iterator[Lead]:
    """The lead that a beat, or another command, holds."""
    lead = Lead(database, NOTIFIER)
    assert lead.is_held()
    yield lead
    lead.give_up()


def check_lead_is_free(database: Engine) -> None:
    lead = Lead(database, NOTIFIER)
    assert lead.is_held()
    lead.give_up()


def told(lines: FileTarget) -> list[str]:
    path = Path(lines.path)
    return (
        [json.loads(line)["data"]["alert_id"] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def test_more_than_a_round_is_delivered_and_what_fails_waits(
    database: Engine, lines: FileTarget, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, SECRET)
    down = WebhookTarget(name="down", url="http://127.0.0.1:1/", secret_variable=VARIABLE, allow_private=True)
    monitor_id = monitor_of(database, lines, down)
    ids = [alert(database, monitor_id, ["lines"], day=day) for day in range(12)]
    refused = alert(database, monitor_id, ["down"], day=12)
    deliver_alerts(database, monitor_id, json=False)

    assert sorted(told(lines)) == sorted(map(str, ids))
    state = states(database, refused)["down"]
    assert (state.num_attempts, state.error_code, state.ended_at) == (1, "webhook_unreachable", None)
    said = capsys.readouterr().err
    assert "Alert deliveries: 12 completed, 1 waiting for `pressroom up` or `pressroom beat`\n" in said


def test_nothing_is_said_where_nothing_is_to_be_told(
    database: Engine, lines: FileTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver_alerts(database, monitor_of(database, lines), json=False)
    assert capsys.readouterr() == ("", "")


def test_stdout_is_left_to_the_object_of_the_command(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor_id = monitor_of(database, FileTarget(name="out", path="-"))
    alert_id = alert(database, monitor_id, ["out"])
    deliver_alerts(database, monitor_id, json=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "0 completed, 1 waiting" in printed.err

    deliver_alerts(database, monitor_id, json=False)
    assert json.loads(capsys.readouterr().out)["data"]["alert_id"] == str(alert_id)


def test_alerts_of_another_monitor_are_left_alone(database: Engine, lines: FileTarget) -> None:
    monitor_id = monitor_of(database, lines)
    rename(database, monitor_id)
    other = alert(database, monitor_id, ["lines"])
    mine = monitor_of(database, lines)
    alert_id = alert(database, mine, ["lines"])
    deliver_alerts(database, mine, json=False)
    assert told(lines) == [str(alert_id)]
    assert states(database, other)["lines"].num_attempts == 0


def rename(database: Engine, monitor_id: UUID) -> None:
    with database.begin() as connection:
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == monitor_id).values(name=str(uuid4())))


def test_command_delivers_nothing_while_another_notifier_leads(
    database: Engine, lines: FileTarget, other_lead: Lead, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor_id = monitor_of(database, lines)
    alert_id = alert(database, monitor_id, ["lines"])
    deliver_alerts(database, monitor_id, json=False, max_seconds=0.5)
    assert told(lines) == []
    assert "0 completed, 1 waiting" in capsys.readouterr().err

    ending = threading.Timer(0.5, other_lead.give_up)  # as another command ends
    ending.start()
    deliver_alerts(database, monitor_id, json=False)
    ending.join()
    assert told(lines) == [str(alert_id)]


def test_target_that_hangs_holds_the_command_for_a_while_alone(
    database: Engine, server: HostileServer, lines: FileTarget, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor_id = monitor_of(database, webhook(server, "/silence"), lines)
    alert_id = alert(database, monitor_id, ["ops", "lines"])
    deliver_alerts(database, monitor_id, json=False, max_seconds=3.0)
    assert told(lines) == [str(alert_id)]
    assert "1 completed, 1 waiting" in capsys.readouterr().err
    check_lead_is_free(database)


def test_outage_of_postgres_does_not_hide_what_the_run_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    with opened_database("postgresql://nobody:nothing@127.0.0.1:1/none") as away:
        deliver_alerts(away, uuid4(), json=False)
    assert "Postgres is unavailable; `pressroom up`" in capsys.readouterr().err


def test_target_whose_secret_is_elsewhere_is_not_tried(
    database: Engine,
    server: HostileServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monitor_id = monitor_of(database, webhook(server, "/"))
    alert_id = alert(database, monitor_id, ["ops"])
    monkeypatch.delenv(VARIABLE)
    deliver_alerts(database, monitor_id, json=False, max_seconds=0.5)
    assert states(database, alert_id)["ops"].num_attempts == 0
    assert "0 completed, 1 waiting" in capsys.readouterr().err


def test_interruption_ends_a_delivery_that_hangs(
    database: Engine, server: HostileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor_id = monitor_of(database, webhook(server, "/silence"))
    alert(database, monitor_id, ["ops"])

    def interrupt() -> None:
        wait_until(lambda: bool(server.seen), "the message is under way")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    deliver_alerts(database, monitor_id, json=False)
    thread.join()
    assert "Interrupted" in capsys.readouterr().err
    assert all(one.daemon for one in threading.enumerate() if one.name == "delivery")
    check_lead_is_free(database)
