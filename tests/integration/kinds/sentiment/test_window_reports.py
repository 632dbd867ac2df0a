"""Which reports are written, and which documents each of them counts."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from db.reports import batch_status
from jobs.documents.document import Document, document_digest
from jobs.job import JobStatus
from kinds.sentiment.export import export_sentiment
from kinds.sentiment.export_files import SentimentFigures
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.store.stage_jobs import StageJob, stream_stage
from kinds.sentiment.tables import MentionRow
from pressroom.summary import Summary
from tests.factories import (
    artifact_place,
    read_place,
)
from tests.integration.kinds.sentiment.test_sentiment_report import BAD, BEGIN, GOOD, Press, pressing
from tests.integration.kinds.sentiment.test_sentiment_report import models as models
from workers.stages import close_stages

TWO_OF_A_NAME = """
name = "trial"
[[company]]
name = "Union Bank"
aliases = ["Union"]
[[company]]
name = "Union Pacific"
aliases = ["Union"]
[[company]]
name = "Acme Steel"
"""
DAYS = 6
CARDS = ("Documents read", "Refused")
LAST = "2026-01-10"
ASIDE = "Borealis Foods was busy in the harbour. " * 40 + "Acme Steel was there."


@pytest.fixture
def press(database: Engine, models: Path, tmp_path: Path) -> Iterator[Press]:
    with pressing(database, models, tmp_path) as running:
        yield running


def line(id_: str, text: str, at: str = f"{LAST}T12:00:00+00:00") -> dict[str, str]:
    return {"id": id_, "text": text, "published_at": at, "language": "en"}


def documents(days: int) -> list[dict[str, str]]:
    """Return three distinct documents a day about each of two companies."""
    chance = random.Random(5)
    lines = []
    for day, name, number in itertools.product(range(days), ("Acme Steel", "Borealis Foods"), range(3)):
        words = " ".join("".join(chance.choices(string.ascii_lowercase, k=7)) for _ in range(20))
        at = BEGIN + timedelta(days=day, minutes=chance.randrange(600))
        text = chance.choice((GOOD, BAD)).format(name, day, words)
        lines.append(line(f"{name[:4]}-{day}-{number}", text, at.isoformat()))
    return lines


def feed() -> list[dict[str, str]]:
    """Return a few days; on the last, a story is repeated and a text is barely about its company."""
    story = BAD.format("Acme Steel", 1, "in the old mill by the river")
    again = [line(f"again-{n}", story, f"{LAST}T1{n}:30:00+00:00") for n in range(4)]
    return [*documents(DAYS), *again, line("aside", ASIDE)]


def reports(press: Press, batch_id: UUID) -> dict[str, StageJob]:
    """Return the reports of a batch by name."""
    jobs = stream_stage(press.database, batch_id, "reports", statuses=(JobStatus.SUCCEEDED,))
    return {job.custom_id: job for job in jobs}


def artifact(press: Press, job: StageJob, name: str) -> bytes:
    (number,) = (number for number, each in enumerate(job.artifacts) if each.name == name)
    return read_place(press.store, artifact_place(press.database, job.job_id, number))


def listed(press: Press, job: StageJob) -> list[dict[str, Any]]:
    body = artifact(press, job, "documents.jsonl").decode()
    return [json.loads(row) for row in body.split("\n") if row]


def parents(job: StageJob) -> list[tuple[str, str, str]]:
    assert job.statement is not None
    lineage = json.loads(job.statement)["predicate"]["lineage"]
    return [(parent["role"], parent["name"], parent["sha256"]) for parent in lineage["parents"]]


def recomputed(rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the figures of a window, computed from the lines alone."""
    first = [row for row in rows if row["novelty"] == 1]
    classes = Counter(
        max(("negative", "neutral", "positive"), key=lambda name: row[f"p_{name}"]) for row in first
    )
    weight = sum(row["relevance"] for row in first)
    mean = sum(row["relevance"] * row["score"] for row in first) / weight
    return {
        "num_documents": len(first),
        "num_followups": len(rows) - len(first),
        "num_negative": classes["negative"],
        "num_neutral": classes["neutral"],
        "num_positive": classes["positive"],
        "weight": weight,
        "weight_squared": sum(row["relevance"] ** 2 for row in first),
        "mean_score": pytest.approx(mean, abs=1e-9),
        "negative_share": classes["negative"] / len(first),
    }


def export(press: Press, batch_id: UUID, out: Path) -> tuple[Summary, SentimentFigures]:
    report = batch_status(press.database, batch_id)
    summary = Summary(report=report, elapsed_seconds=1, startup_seconds=0)
    return summary, export_sentiment(press.database, press.store, summary, out)


def test_figures_of_every_report_follow_from_the_documents_that_it_lists(press: Press) -> None:
    lines = feed()
    batch_id, _ = press.run(lines, reports="all")

    written = reports(press, batch_id)
    assert len(written) == 2 * DAYS
    digests = {one["id"]: document_digest(Document.model_validate(one)) for one in lines}
    for job in written.values():
        rows = listed(press, job)
        window = json.loads(artifact(press, job, "report.json"))["window"]
        assert {name: window[name] for name in recomputed(rows)} == recomputed(rows)
        assert {row["document_id"]: row["sha256"] for row in rows}.items() <= digests.items()
    assert {row["document_id"] for job in written.values() for row in listed(press, job)} == set(digests)


def test_all_counted_documents_are_one_parent_and_the_quoted_ones_one_each(press: Press) -> None:
    batch_id, _ = press.run(feed(), reports="latest")

    job = reports(press, batch_id)[f"acme-steel-day-{LAST}"]
    rows = listed(press, job)
    digest = hashlib.sha256("".join(f"{row['sha256']} {row['document_id']}\n" for row in rows).encode())
    assert parents(job)[1] == ("documents", f"acme-steel/day/{LAST}T00:00:00Z", digest.hexdigest())
    quoted = {name: sha256 for role, name, sha256 in parents(job) if role == "document"}
    assert 0 < len(quoted) < len(rows)
    assert quoted.items() <= {row["document_id"]: row["sha256"] for row in rows}.items()
    (subject,) = (one for one in job.artifacts if one.name == "documents.jsonl")
    assert job.statement is not None
    subjects = {one["name"]: one["digest"]["sha256"] for one in json.loads(job.statement)["subject"]}
    assert subjects["documents.jsonl"] == subject.sha256
    assert digest.hexdigest() in artifact(press, job, "report.html").decode()


def test_followups_are_listed_as_such_and_what_is_hardly_about_the_entity_is_not(press: Press) -> None:
    batch_id, _ = press.run(feed(), reports="latest")

    rows, others = (
        {row["document_id"]: row for row in listed(press, reports(press, batch_id)[f"{name}-day-{LAST}"])}
        for name in ("acme-steel", "borealis-foods")
    )
    assert [(rows[f"again-{n}"]["novelty"], rows[f"again-{n}"]["first_id"]) for n in range(4)] == [
        (n + 1, "again-0") for n in range(4)
    ]
    with press.database.connect() as connection:
        relevance = connection.scalar(
            select(MentionRow.relevance).where(
                MentionRow.document_id == "aside", MentionRow.entity_id == "acme-steel"
            )
        )
    assert relevance is not None
    assert relevance < Policy().min_relevance
    assert ("aside" in rows, "aside" in others) == (False, True)


def run_while_a_document_comes(press: Press, document_id: str) -> UUID:
    """Run a batch whose reports are written after another batch has read a document, but not counted it."""
    batch_id, _ = press.submit(feed(), reports="latest")
    for stage in (0, 1):
        press.run_stage(batch_id, stage)
        close_stages(press.database, batch_id)
    press.run([line(document_id, GOOD.format("Acme Steel", 9, "at last"))], until_stage=0)
    press.finish(batch_id, num_stages=3)
    return batch_id


def test_a_document_that_comes_while_reports_are_written_is_in_none_of_them(press: Press) -> None:
    batch_id = run_while_a_document_comes(press, "late")

    assert batch_status(press.database, batch_id).counts.failed == 0
    rows = listed(press, reports(press, batch_id)[f"acme-steel-day-{LAST}"])
    assert "late" not in {row["document_id"] for row in rows}


def test_no_report_is_written_of_documents_that_are_being_corrected(press: Press) -> None:
    batch_id = run_while_a_document_comes(press, "again-0")

    assert batch_status(press.database, batch_id).top_errors == (("window_changing", 1),)
    assert set(reports(press, batch_id)) == {f"borealis-foods-day-{LAST}"}


def test_all_writes_of_every_window_once_and_again_only_where_its_figures_change(press: Press) -> None:
    lines = documents(DAYS)
    first, _ = press.run(lines, reports="all")
    again, _ = press.run(lines, reports="all")
    new = line("new", GOOD.format("Acme Steel", 9, "at last"))
    grown, _ = press.run([*lines, new], reports="all")

    names = {
        f"{name}-day-2026-01-{day:02}" for name in ("acme-steel", "borealis-foods") for day in range(5, 11)
    }
    assert set(reports(press, first)) == names
    assert set(reports(press, again)) == set()
    assert set(reports(press, grown)) == {f"acme-steel-day-{LAST}"}


def test_reports_over_the_limit_are_counted_and_told(
    press: Press, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id, _ = press.run(documents(DAYS), reports="all", max_reports=3)

    summary, figures = export(press, batch_id, tmp_path / "out")

    assert list(reports(press, batch_id)) == [
        *(f"acme-steel-day-{LAST}", f"borealis-foods-day-{LAST}", "acme-steel-day-2026-01-09"),
    ]
    assert (figures.num_reports, figures.num_reports_left_out, figures.max_reports) == (3, 2 * DAYS - 3, 3)
    told = json.loads((tmp_path / "out/summary.json").read_text())["sentiment"]
    assert told["num_reports_left_out"] == 2 * DAYS - 3
    assert "9 more reports were left out" in (tmp_path / "out/index.html").read_text()
    figures.print(summary, tmp_path / "out", json=False)
    assert "left out    9 reports: a batch writes at most 3 (max_reports)" in capsys.readouterr().out
    figures.print(summary, tmp_path / "out", json=True)
    assert json.loads(capsys.readouterr().out)["figures"]["num_reports_left_out"] == 9


def test_only_the_day_of_a_files_last_document_is_told_so_far(press: Press) -> None:
    lines = [*feed(), line("evening", BAD.format("Acme Steel", 9, "at the gate"), f"{LAST}T23:10:00+00:00")]
    batch_id, _ = press.run(lines, reports="all")

    told = {
        name: artifact(press, job, "report.md").decode().partition("\n")[0]
        for name, job in reports(press, batch_id).items()
    }

    last = {f"{entity}-day-{LAST}" for entity in ("acme-steel", "borealis-foods")}
    assert {name for name, heading in told.items() if "so far" in heading} == last
    assert all(told[name].endswith(", so far, up to 23:10") for name in last)


def test_documents_that_cannot_be_told_are_not_counted_as_about_nobody(
    database: Engine, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line("acme", "Acme Steel beats forecasts as orders rise"),
        line("nobody", "The harbour was quiet on a cold morning in autumn"),
        line("doubtful", "Union warns of a loss after a recall"),
        line("foreign", "Acme Steel meldet einen hohen Verlust") | {"language": "de"},
    ]
    with pressing(database, models, tmp_path, watchlist=TWO_OF_A_NAME) as press:
        batch_id, _ = press.run(lines)
        summary, figures = export(press, batch_id, tmp_path / "out")
    figures.print(summary, tmp_path / "out", json=False)

    told = capsys.readouterr().out
    assert "4 analysed, 1 of them mention no watched entity, 0 refused" in told
    assert "mentions    1, of 1 of the 3 watched entities" in told
    assert "flagged     1 with an ambiguous name, 1 in another language" in told
    page = (tmp_path / "out/index.html").read_text()
    cards = {heading: page.partition(f"<h2>{heading}</h2>")[2].partition("</div>")[0] for heading in CARDS}
    words = "1 mention no company or topic on the list; 1 with an ambiguous name; 1 in another language"
    assert words in cards[CARDS[0]]
    assert "ambiguous" not in cards[CARDS[1]]
    assert "language" not in cards[CARDS[1]]


def test_nothing_is_told_where_nothing_was_left_out(
    press: Press, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id, _ = press.run(documents(3), reports="all")

    summary, figures = export(press, batch_id, tmp_path / "out")
    figures.print(summary, tmp_path / "out", json=False)

    assert figures.num_reports_left_out == 0
    assert "left out" not in capsys.readouterr().out + (tmp_path / "out/index.html").read_text()


def test_the_list_of_documents_lies_beside_its_report_and_goes_with_it(press: Press, tmp_path: Path) -> None:
    lines = documents(2)
    first, _ = press.run(lines, reports="latest")
    second, _ = press.run(documents(3), reports="latest")
    out = tmp_path / "out"

    export(press, first, out)
    job = reports(press, first)["acme-steel-day-2026-01-06"]
    file = out / "reports/acme-steel-day-2026-01-06.documents.jsonl"
    assert file.read_bytes() == artifact(press, job, "documents.jsonl")

    export(press, second, out)
    names = {path.name for path in (out / "reports").glob("*.jsonl")}
    assert names == {f"{name}-day-2026-01-07.documents.jsonl" for name in ("acme-steel", "borealis-foods")}
