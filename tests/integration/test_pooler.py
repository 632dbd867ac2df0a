"""Behind a pooler of transactions everything works, and exactly one process leads."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from db import leads, migrate
from db.dispatch import JobListener
from db.faults import DatabaseFault, fault_of
from db.leads import DISPATCHER
from db.session import is_pooled, open_database
from pressroom.embedded.services import ServiceUrls
from tests.factories import accept, job_ids, statuses, wait_until
from tests.pooler import Pooler
from tests.workers import START_SECONDS, supervised
from workers import lead
from workers.dispatcher import Dispatcher
from workers.lead import Lead
from workers.settings import Settings


def holder(database: Engine) -> tuple[str, int]:
    with database.connect() as connection:
        row = connection.execute(text("SELECT holder, fence FROM leads WHERE role = 'dispatcher'")).one()
    return row.holder, row.fence


def test_a_batch_is_done_behind_a_pooler_with_two_dispatchers_of_which_one_leads(
    database: Engine, services: ServiceUrls, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    stopped = threading.Event()
    with ExitStack() as exits:
        pooler = exits.enter_context(Pooler(database_url, is_disguised=True))  # no client can adapt to it
        urls = ServiceUrls(db_url=pooler.url, redis_url=redis_url, s3_url=services.s3_url)
        for _ in range(2):
            behind = open_database(pooler.url)
            exits.callback(behind.dispose)
            dispatcher = Dispatcher(behind, redis_url, Settings(home=tmp_path))
            thread = threading.Thread(target=dispatcher.run, args=(stopped,))
            thread.start()
            exits.callback(thread.join)
        exits.callback(stopped.set)
        exits.enter_context(supervised(tmp_path, urls))
        ids = job_ids(database, accept(database, 40))
        wait_until(lambda: set(statuses(database, ids)) == {"succeeded"}, "the jobs", seconds=START_SECONDS)
        first, fence = holder(database)
        with database.connect() as connection:
            candidates = connection.scalars(
                text("SELECT holder FROM candidates WHERE role = 'dispatcher'")
            ).all()
        assert len(candidates) == 2
        assert first in candidates
        assert fence == 1
    assert not [sent for sent in pooler.statements if b"pg_try_advisory" in sent or sent.startswith(b"_pg3_")]
    (log_path,) = (tmp_path / "logs").glob("worker-*.log")
    assert "Postgres" not in log_path.read_text()


def test_settings_of_the_session_hold_behind_a_pooler_that_refuses_them(database_url: str) -> None:
    with Pooler(database_url) as pooler:
        behind = open_database(pooler.url)
        with behind.connect() as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "2min"
            assert connection.scalar(text("SHOW timezone")) == "UTC"
        assert is_pooled(behind)
        behind.dispose()


def test_a_listener_sends_no_listen_to_a_pooler(database_url: str) -> None:
    with Pooler(database_url) as pooler:
        behind = open_database(pooler.url)
        behind.connect().close()
        listener = JobListener(behind)
        listener.wait(0.01)
        listener.close()
        behind.dispose()
        assert not [sent for sent in pooler.statements if b"LISTEN" in sent]


def test_a_server_itself_is_no_pooler(database: Engine) -> None:
    database.connect().close()
    assert not is_pooled(database)


def test_migrations_run_behind_a_pooler(empty_database_url: str) -> None:
    with Pooler(empty_database_url) as pooler:
        behind = open_database(pooler.url)
        migrate.upgrade(behind)
        assert migrate.revisions(behind).is_current
        behind.dispose()


def test_a_lease_passes_on_when_it_runs_out_and_its_fence_rises(database: Engine) -> None:
    def contend(name: str, seconds: float = 60.0) -> int | None:
        return leads.contend(database, DISPATCHER, name, host="h", lease_seconds=seconds)

    assert contend("one") == 1
    assert contend("two") is None
    assert contend("one", seconds=-1.0) == 1
    assert contend("two") == 2
    assert contend("one") is None
    leads.resign(database, DISPATCHER, "two")
    assert contend("one") == 3
    leads.resign(database, DISPATCHER, "two")  # which has none any more
    assert contend("two") is None


def test_a_lost_lead_is_noticed_and_told(
    database: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=lead.__name__)
    monkeypatch.setattr(lead, "RENEW_SECONDS", 0.0)
    ours = Lead(database, DISPATCHER)
    assert ours.is_held()
    with database.begin() as connection:
        connection.execute(text("UPDATE leads SET holder = 'another'"))
    assert not ours.is_held()
    assert caplog.messages == [
        "This dispatcher is active.",
        "This dispatcher has lost the lead to another process.",
    ]


def test_a_lead_that_was_lost_for_a_while_is_told_too(
    database: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lead, "RENEW_SECONDS", 0.0)
    ours = Lead(database, DISPATCHER)
    assert ours.is_held()
    with database.begin() as connection:
        connection.execute(text("UPDATE leads SET holder = 'another', fence = 2, expires_at = now()"))
    assert ours.is_held()
    assert holder(database)[1] == 3
    assert caplog.messages == ["This dispatcher has lost the lead to another process."]


def fault_of_statement(database: Engine, statement: str) -> DatabaseFault:
    with pytest.raises(DBAPIError) as raised, database.begin() as connection:
        connection.execute(text(statement))
    return fault_of(raised.value)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("EXECUTE nothing", DatabaseFault.MISUSE),
        ("SELECT * FROM no_such_table", DatabaseFault.MISUSE),
        ("SELEC 1", DatabaseFault.MISUSE),
        ("INSERT INTO leads VALUES ('a', 'b', 1, now()), ('a', 'b', 1, now())", DatabaseFault.CONFLICT),
        ("SET LOCAL transaction_read_only = on; DELETE FROM leads", DatabaseFault.AWAY),
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseFault.AWAY),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$", DatabaseFault.FULL),
    ],
)
def test_an_error_of_the_database_is_an_outage_a_conflict_or_misuse(
    database: Engine, statement: str, fault: DatabaseFault
) -> None:
    assert fault_of_statement(database, statement) is fault


def test_a_database_that_cannot_be_reached_is_away() -> None:
    nowhere = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DBAPIError) as raised:
        nowhere.connect()
    assert fault_of(raised.value) is DatabaseFault.AWAY


def test_a_dispatcher_ends_with_the_reason_when_its_first_statement_is_refused(
    empty_database_url: str, redis_url: str
) -> None:
    unmigrated = open_database(empty_database_url)
    with pytest.raises(DBAPIError, match="candidates"):
        Dispatcher(unmigrated, redis_url, Settings()).run(threading.Event())
    unmigrated.dispose()


def test_a_dispatcher_that_has_worked_outlives_a_refusal_and_names_it(
    database: Engine, redis_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "RENEW_SECONDS", 0.0)
    dispatcher = Dispatcher(database, redis_url, Settings())
    dispatcher._round()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE leads RENAME TO hidden"))
    dispatcher._round()
    dispatcher._round()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO leads"))
    dispatcher._round()
    dispatcher.close()
    assert caplog.messages == [
        "Postgres rejects a statement; the dispatcher waits.",
        "Postgres answers again.",
    ]
