"""A monitor one of whose sources is down: the others go on, and nobody is told that it is quiet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, update

from db.reports import batch_status
from db.schedules import get_schedule
from db.tables import BatchRow, JobRow
from jobs.batch import BatchStatus
from jobs.job import JobStatus
from jobs.sources import FeedSource, FileSource
from kinds.sentiment.export_files import write_failures
from kinds.sentiment.monitor import AlertStatus
from kinds.sentiment.monitor_runs import start_monitor
from kinds.sentiment.payload import WindowsOutput
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.store.monitors import get_monitor, put_monitor, unobserved_since, unread_sources
from kinds.sentiment.store.stage_jobs import stream_stage
from kinds.sentiment.tables import AlertRow, DocumentRow
from pressroom.schedules import state_of
from tests.hostile_server import HostileServer, hostile_server
from tests.integration.kinds.sentiment.test_sentiment_report import BAD, BEGIN, GOOD, Press, pressing
from tests.integration.kinds.sentiment.test_sentiment_report import models as models

ACME, BOREALIS = "Acme Steel", "Borealis Foods"


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as running:
        yield running


@pytest.fixture
def press(database: Engine, models: Path, tmp_path: Path, server: HostileServer) -> Iterator[Press]:
    """Acme Steel is in a feed, Borealis Foods in files."""
    (tmp_path / "in").mkdir()
    feed = FeedSource(url=server.url("/acme.xml?key=SECRET"), allow_private=True)
    with pressing(database, models, tmp_path) as running:
        monitor = get_monitor(database, running.monitor_id)
        sources = (feed, FileSource(path=str(tmp_path / "in")))
        with database.begin() as connection:
            put_monitor(connection, replace(monitor, sources=sources, settings={"reports": "none"}))
        yield running


def day_of(number: int) -> datetime:
    return BEGIN.replace(hour=0) + timedelta(days=number)


def lines(name: str, days: range) -> list[dict[str, str]]:
    """Two documents a day, each in words of its own."""
    return [
        {
            "id": f"{name[:4]}-{day}-{number}",
            "text": GOOD.format(name, day, f"{day * 7919 % 997} by {day * 31 + number}"),
            "published_at": (day_of(day) + timedelta(hours=9 + number)).isoformat(),
        }
        for day in days
        for number in range(2)
    ]


def feed_of(days: range) -> bytes:
    items = (
        f"<item><guid>{line['id']}</guid><description>{line['text']}</description><pubDate>"
        f"{format_datetime(datetime.fromisoformat(line['published_at']))}</pubDate></item>"
        for line in lines(ACME, days)
    )
    return f'<rss version="2.0"><channel><title>Wire</title>{"".join(items)}</channel></rss>'.encode()


def write_files(folder: Path, days: range) -> None:
    body = "".join(json.dumps(line) + "\n" for line in lines(BOREALIS, days))
    (folder / "in" / "borealis.jsonl").write_text(body)


def run_due(press: Press, due_at: datetime) -> UUID:
    with press.database.begin() as connection:
        batch_id = start_monitor(
            connection, get_monitor(press.database, press.monitor_id), due_at, press.config
        )
    press.finish(batch_id, num_stages=4)
    return batch_id


def silences(press: Press) -> set[str]:
    with press.database.connect() as connection:
        return set(
            connection.scalars(
                select(AlertRow.entity_id).where(
                    AlertRow.rule == AlertRule.SILENCE, AlertRow.status != AlertStatus.WITHDRAWN
                )
            )
        )


def documents_of(press: Press, name: str) -> int:
    with press.database.connect() as connection:
        ids = connection.scalars(select(DocumentRow.id)).all()
    return sum(id_.startswith(name[:4]) for id_ in ids)


def test_others_go_on_and_an_entity_of_the_feed_that_is_down_is_not_said_to_be_silent(
    press: Press, server: HostileServer, tmp_path: Path
) -> None:
    server.feeds["/acme.xml"] = feed_of(range(60))
    write_files(tmp_path, range(60))
    run_due(press, day_of(60))
    assert silences(press) == set()

    del server.feeds["/acme.xml"]
    for number in (66, 74):
        write_files(tmp_path, range(number))
        batch_id = run_due(press, day_of(number))
        report = batch_status(press.database, batch_id)
        assert (report.status, report.counts.failed) == (BatchStatus.FINISHED, 1)
        assert documents_of(press, BOREALIS) == 2 * number
        assert silences(press) == set()

    server.feeds["/acme.xml"] = feed_of(range(50, 75))  # as feeds do: the latest entries
    write_files(tmp_path, range(75))
    run_due(press, day_of(75))
    assert documents_of(press, ACME) == 150
    assert silences(press) == set()


def test_a_day_whose_source_was_down_is_not_written_about_as_over(
    press: Press, server: HostileServer, tmp_path: Path
) -> None:
    monitor = get_monitor(press.database, press.monitor_id)
    with press.database.begin() as connection:
        put_monitor(connection, replace(monitor, settings={"reports": "latest"}))
    server.feeds["/acme.xml"] = feed_of(range(40))
    write_files(tmp_path, range(40))
    assert known_until(press, run_due(press, day_of(40))) == {day_of(40)}

    del server.feeds["/acme.xml"]
    write_files(tmp_path, range(42))
    assert known_until(press, run_due(press, day_of(42))) == {day_of(41) + timedelta(hours=10)}


def known_until(press: Press, batch_id: UUID) -> set[datetime]:
    """What the reports of a batch are told of how far it has come."""
    jobs = stream_stage(press.database, batch_id, "windows", statuses=(JobStatus.SUCCEEDED,))
    wanted = [report for job in jobs for report in job.read(WindowsOutput).reports]
    return {report.known_until for report in wanted if report.known_until is not None}


def test_silence_is_told_once_all_sources_are_read_again(
    press: Press, server: HostileServer, tmp_path: Path
) -> None:
    server.feeds["/acme.xml"] = feed_of(range(60))
    write_files(tmp_path, range(60))
    run_due(press, day_of(60))
    del server.feeds["/acme.xml"]
    for number in (74, 88):
        write_files(tmp_path, range(number))
        run_due(press, day_of(number))
    server.feeds["/acme.xml"] = feed_of(range(60))  # back, and nothing had been written
    write_files(tmp_path, range(89))
    run_due(press, day_of(89))
    assert silences(press) == {"acme-steel"}


def test_silence_that_was_told_stands_when_a_source_goes_down_later(
    press: Press, server: HostileServer, tmp_path: Path
) -> None:
    server.feeds["/acme.xml"] = feed_of(range(60))
    write_files(tmp_path, range(74))
    run_due(press, day_of(74))
    assert silences(press) == {"acme-steel"}
    del server.feeds["/acme.xml"]
    late = {"id": "late", "text": f"{ACME} rises", "published_at": f"{day_of(58):%Y-%m-%d}T08:00:00Z"}
    (tmp_path / "in" / "late.jsonl").write_text(json.dumps(late))
    run_due(press, day_of(75))
    assert silences(press) == {"acme-steel"}


def test_source_that_was_down_is_named_with_the_reason_until_it_is_read_again(
    press: Press, server: HostileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, range(40))
    batch_id = run_due(press, day_of(40))
    (unread,) = unread_sources(press.database, press.monitor_id)
    assert isinstance(unread.source, FeedSource)
    assert unread.error_code == "feed_status"
    assert "status 404" in unread.error_message
    assert "SECRET" not in unread.error_message
    assert write_failures(press.database, batch_id, tmp_path) == (unread.error_message,)
    print_monitor(press)
    said = capsys.readouterr().out
    assert "1 of 2 sources not read" in said
    assert unread.error_message in said
    assert "SECRET" not in said

    server.feeds["/acme.xml"] = feed_of(range(40))
    run_due(press, day_of(41))
    assert unread_sources(press.database, press.monitor_id) == []


def print_monitor(press: Press) -> None:
    """As `monitor list` and `monitor show` do."""
    state = state_of(press.database, get_schedule(press.database, press.monitor_id))
    state.print_line()
    state.print_page("monitor")


def bad_day(number: int) -> list[dict[str, str]]:
    """A surge of Borealis Foods on this day."""
    return [
        {
            "id": f"bad-{number}-{n}",
            "text": BAD.format(BOREALIS, number, f"{n * 7919 % 997} by {n * 31}"),
            "published_at": (day_of(number) + timedelta(hours=8, minutes=n)).isoformat(),
        }
        for n in range(20)
    ]


def surge_on(press: Press, number: int) -> list[AlertStatus]:
    with press.database.connect() as connection:
        return list(
            connection.scalars(
                select(AlertRow.status).where(
                    AlertRow.entity_id == "borealis-foods",
                    AlertRow.rule == AlertRule.SURGE,
                    AlertRow.starts_at == day_of(number),
                )
            )
        )


@pytest.fixture
def surged(press: Press, server: HostileServer, tmp_path: Path) -> Press:
    """The run of five past midnight has told of a surge of the day that has just ended."""
    server.feeds["/acme.xml"] = feed_of(range(60))
    write_files(tmp_path, range(60))
    (tmp_path / "in" / "bad.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bad_day(59)))
    run_due(press, day_of(60) + timedelta(minutes=5))
    assert surge_on(press, 59) == [AlertStatus.OPEN]
    return press


def test_alert_of_the_newest_window_survives_a_file_of_known_documents(surged: Press) -> None:
    before = surged.series()
    surged.run(lines(BOREALIS, range(60)))
    assert surged.series() == before


def test_alert_of_the_newest_window_survives_a_file_of_an_older_document(surged: Press) -> None:
    late = {"id": "late", "text": f"{BOREALIS} opens a mill", "published_at": f"{day_of(57):%Y-%m-%d}T08:00Z"}
    surged.run([late])
    assert surge_on(surged, 59) == [AlertStatus.OPEN]


def test_file_does_not_end_the_day_that_a_run_has_not_ended(
    press: Press, server: HostileServer, tmp_path: Path
) -> None:
    server.feeds["/acme.xml"] = feed_of(range(60))
    write_files(tmp_path, range(60))
    run_due(press, day_of(60))
    press.run(bad_day(60))
    assert surge_on(press, 60) == []
    run_due(press, day_of(61))
    assert surge_on(press, 60) == [AlertStatus.OPEN]


def test_alert_of_the_newest_window_survives_a_run_with_a_failed_source(
    surged: Press, server: HostileServer, tmp_path: Path
) -> None:
    del server.feeds["/acme.xml"]
    late = {"id": "late", "text": f"{BOREALIS} opens a mill", "published_at": f"{day_of(57):%Y-%m-%d}T08:00Z"}
    (tmp_path / "in" / "late.jsonl").write_text(json.dumps(late))
    run_due(surged, day_of(60) + timedelta(minutes=35))
    assert surge_on(surged, 59) == [AlertStatus.OPEN]


def test_alert_of_the_newest_window_survives_a_run_that_was_due_earlier(surged: Press) -> None:
    run_due(surged, day_of(59) + timedelta(hours=23))
    assert surge_on(surged, 59) == [AlertStatus.OPEN]


def test_file_tells_of_no_silence_while_a_source_is_down(
    press: Press, server: HostileServer, tmp_path: Path
) -> None:
    server.feeds["/acme.xml"] = feed_of(range(60))
    write_files(tmp_path, range(60))
    run_due(press, day_of(60))
    del server.feeds["/acme.xml"]
    write_files(tmp_path, range(74))
    run_due(press, day_of(74))
    press.run(lines(BOREALIS, range(74, 80)))
    assert silences(press) == set()
    server.feeds["/acme.xml"] = feed_of(range(60))
    run_due(press, day_of(80))
    assert silences(press) == {"acme-steel"}
    press.run([{"id": "late", "text": f"{ACME} rises", "published_at": f"{day_of(58):%Y-%m-%d}T08:00Z"}])
    assert silences(press) == {"acme-steel"}


def test_run_that_did_not_analyse_all_it_read_is_said_to_tell_of_no_silence(
    surged: Press, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unobserved_since(surged.database, surged.monitor_id) is None
    write_files(tmp_path, range(61))
    batch_id = run_due(surged, day_of(61))
    with surged.database.begin() as connection:
        of_documents = (JobRow.batch_id == batch_id) & (JobRow.stage == 1)
        connection.execute(update(JobRow).where(of_documents).values(status=JobStatus.FAILED))
        connection.execute(update(BatchRow).where(BatchRow.id == batch_id).values(num_failed=1))
    since = unobserved_since(surged.database, surged.monitor_id)
    assert since == day_of(60) + timedelta(minutes=5)
    assert unread_sources(surged.database, surged.monitor_id) == []
    print_monitor(surged)
    assert "silence alerts are suppressed" in capsys.readouterr().out
