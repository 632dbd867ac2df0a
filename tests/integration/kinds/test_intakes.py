"""Documents, and a catalogue with its log, are submitted like the rows of any kind."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.batches import batch_settings
from db.reports import batch_status
from db.stages import NewJob
from db.tables import JobRow, StageRow
from jobs.errors import ConfigurationError, InputError
from jobs.rejection import Rejected
from kinds.recommendation import intake
from kinds.recommendation.store.recommenders import find_recommender
from kinds.sentiment.store.monitors import MonitorNotFoundError, find_monitor
from pressroom.describers import describer_of
from tests.integration.kinds.recommendation.test_recommenders import NUM_USERS, events, items
from workers.intake import BatchRequest, Inputs, IntakeBrokenError, IntakePlan, IntakeSource
from workers.producer import StrictIntakeError, Submission, submit
from workers.settings import Profile, Settings

WATCH = 'name = "steel"\n[[company]]\nname = "Acme Steel"\ntickers = ["ACME"]\n'


class Desk:
    """Submits inputs of a kind, and keeps what it is told about them."""

    def __init__(self, database: Engine, s3_url: str, home: Path) -> None:
        self.database = database
        self.s3_url = s3_url
        self.rejected: list[Rejected] = []
        self.notes: list[str] = []
        self.settings = Settings(home=home, profiles={"cpu": Profile(models=("moods",))})

    def submit(self, inputs: Inputs, request: BatchRequest) -> Submission:
        return submit(
            self.database,
            inputs,
            request,
            self.settings,
            self.rejected.append,
            on_note=self.notes.append,
            s3_url=self.s3_url,
        )

    def stages(self, batch_id: UUID) -> list[str]:
        with Session(self.database) as session:
            rows = session.scalars(select(StageRow).where(StageRow.batch_id == batch_id))
            return [row.name for row in sorted(rows, key=lambda row: row.number)]

    def custom_ids(self, batch_id: UUID) -> list[str]:
        with Session(self.database) as session:
            return list(session.scalars(select(JobRow.custom_id).where(JobRow.batch_id == batch_id)))


@pytest.fixture
def desk(database: Engine, s3_url: str, tmp_path: Path) -> Desk:
    return Desk(database, s3_url, tmp_path / "home")


def sentiment(**options: object) -> BatchRequest:
    settings = {"embedder": "none", "summarizer": "none", **options}
    return BatchRequest(kind="sentiment_report", model="moods", settings=settings)


def write_documents(path: Path, texts: Mapping[str, str]) -> Path:
    lines = [
        json.dumps({"id": id_, "text": text, "published_at": "2026-03-02T08:00:00Z"})
        for id_, text in texts.items()
    ]
    path.write_text("\n".join([*lines, '{"id": "bad"}']) + "\n")
    return path


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_documents_and_watch_list_become_blocks_for_a_monitor(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "watch.toml").write_text(WATCH)
    file = write_documents(tmp_path / "feed.jsonl", {"a": "Acme Steel rises", "b": "Acme Steel falls"})
    inputs = {"documents": file, "watchlist": tmp_path / "watch.toml"}

    submission = desk.submit(inputs, sentiment(windows="day,hour", columns="text=text"))

    assert desk.custom_ids(submission.batch_id) == ["block-0"]
    assert desk.stages(submission.batch_id) == ["documents", "windows", "reports"]
    assert [refused.line for refused in desk.rejected] == [3]
    assert submission.dropped is not None
    assert (submission.dropped.num_dropped, submission.dropped.num_records) == (1, 3)
    assert desk.notes[-1].startswith("2 documents to analyse, 0 known already, 1 refused; monitor steel")
    monitor = find_monitor(desk.database, "steel")
    assert (monitor.policy.windows, monitor.model) == (("day", "hour"), "moods")
    assert batch_settings(desk.database, submission.batch_id)["monitor_id"] == str(monitor.id)
    report = batch_status(desk.database, submission.batch_id)
    described = list(describer_of("sentiment_report").describe_batch(desk.database, report))
    assert described == [("monitor", "steel, 1 entities")]

    again = desk.submit({"documents": file}, sentiment(monitor="steel"))
    assert again.created  # of the monitor's own watch list, which is not given a second time


def test_inputs_that_do_not_fit_are_refused_by_name_and_accept_nothing(desk: Desk, tmp_path: Path) -> None:
    file = write_documents(tmp_path / "feed.jsonl", {"a": "Acme Steel rises"})
    with pytest.raises(MonitorNotFoundError):
        desk.submit({"documents": file}, sentiment(monitor="nobody"))
    for inputs, code in (
        ({"watchlist": file}, "input_missing"),
        ({"documents": file, "list": file}, "input_unknown"),
        ({"documents": [{"text": "a"}]}, "input_missing"),
    ):
        with pytest.raises(InputError) as refused:
            desk.submit(inputs, sentiment(monitor="nobody"))
        assert refused.value.code == code
    with pytest.raises(InputError) as setting:
        desk.submit({"documents": file}, sentiment(window="day"))
    assert setting.value.code == "setting_invalid"
    with pytest.raises(ConfigurationError) as kind:
        desk.submit({"rows": file}, BatchRequest(kind="sentiment_labels", model="moods", settings={}))
    assert kind.value.code == "kind_without_rows"
    with Session(desk.database) as session:
        assert session.scalars(select(JobRow)).all() == []


def test_strict_submission_of_documents_accepts_nothing(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "watch.toml").write_text(WATCH)
    file = write_documents(tmp_path / "feed.jsonl", {"a": "Acme Steel rises"})
    request = BatchRequest(
        kind="sentiment_report",
        model="moods",
        settings={"embedder": "none", "summarizer": "none"},
        strict=True,
    )
    with pytest.raises(StrictIntakeError):
        desk.submit({"documents": file, "watchlist": tmp_path / "watch.toml"}, request)
    with Session(desk.database) as session:
        assert session.scalars(select(JobRow)).all() == []


@pytest.mark.parametrize("is_late", [False, True])
def test_fault_of_a_reader_names_the_reader_and_shows_no_text_of_a_record(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    def stream() -> Iterator[NewJob]:
        yield NewJob("a", {"stage": "collect"})
        raise KeyError("secret cell")

    def read(source: IntakeSource) -> IntakePlan:
        if not is_late:
            raise KeyError("secret cell")
        planned = plan(source)
        return replace(planned, jobs=stream())

    plan = intake.read_shop
    monkeypatch.setattr(intake, "read_shop", read)
    inputs = {
        "catalogue": write_rows(tmp_path / "catalogue.csv", items()),
        "interactions": write_rows(tmp_path / "interactions.csv", events()),
    }
    request = BatchRequest(
        kind="recommendation", model="", settings={"copy": "none", "embedder": "none", "recommender": "shop"}
    )
    with pytest.raises(IntakeBrokenError, match=r"read_shop.*KeyError \(test_intakes.py, line") as broken:
        desk.submit(inputs, request)
    assert "secret" not in str(broken.value)
    with Session(desk.database) as session:
        assert session.scalars(select(JobRow)).all() == []


def test_catalogue_and_log_are_ingested_and_start_where_ranking_begins(desk: Desk, tmp_path: Path) -> None:
    inputs = {
        "catalogue": write_rows(tmp_path / "catalogue.csv", items()),
        "interactions": write_rows(tmp_path / "interactions.csv", events()),
    }
    request = BatchRequest(
        kind="recommendation", model="", settings={"copy": "none", "embedder": "none", "recommender": "shop"}
    )

    submission = desk.submit(inputs, request)

    assert desk.stages(submission.batch_id)[0] == "fit"
    assert len(desk.custom_ids(submission.batch_id)) == 1
    assert find_recommender(desk.database, "shop").sources is None
    assert submission.dropped is not None
    assert submission.dropped.num_records >= NUM_USERS
    settings = batch_settings(desk.database, submission.batch_id)
    assert settings["inputs_sha256"] is not None
