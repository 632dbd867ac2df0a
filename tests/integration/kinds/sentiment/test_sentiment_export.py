"""What an export of a sentiment batch leaves in a folder, and what it never touches."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.outcomes import commit
from db.reports import batch_status
from db.stages import NewJob
from jobs.kind import Artifact
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.export import export_sentiment
from kinds.sentiment.export_files import SentimentFigures
from kinds.sentiment.history import AnalysedDocuments, DocumentFacts, EntityHistory, Record
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.payload import DocumentsOutput
from kinds.sentiment.series.mention import Mention, Novelty
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize
from kinds.sentiment.store.monitors import new_id, put_monitor
from pressroom.summary import Summary
from storage.memory import MemoryStore
from storage.resources import put_resource
from storage.store import Store
from tests.factories import (
    accept,
    alter_place,
    artifact_place,
    claim_batch,
    failure,
    job_ids,
    new_batch,
    published,
)

DAY = datetime(2026, 3, 2, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script> =HYPERLINK(1) Acme falls"
ACME = Entity(id="acme", kind=EntityKind.COMPANY, name="Acme <b>Steel</b>")
BOREALIS = Entity(id="borealis", kind=EntityKind.COMPANY, name="Borealis")


class Scene:
    """A monitor in a database, and a store."""

    def __init__(self, database: Engine, *, entities: tuple[Entity, ...] = (ACME,)) -> None:
        self.database = database
        self.store = MemoryStore()
        watchlist = Watchlist(name="trial", entities=entities)
        self.watchlist_sha256 = put_resource(
            self.store, watchlist.model_dump_json().encode(), media_type="application/json"
        )
        monitor = Monitor(
            id=new_id(),
            tenant="default",
            name="trial",
            watchlist_sha256=self.watchlist_sha256,
            num_entities=1,
            policy=Policy(),
            sources=(),
            targets=(),
            settings={},
            model="scripted",
        )
        with database.begin() as connection:
            self.monitor_id = put_monitor(connection, monitor)

    def batch(
        self,
        stage: str,
        jobs: Sequence[tuple[str, Sequence[Artifact], dict[str, object]]],
        *,
        records: tuple[Record, ...] = (),
        failing: Sequence[str] = (),
    ) -> UUID:
        """A finished batch of one stage: each job with its artifacts and metrics, records with the first."""
        settings: dict[str, object] = {
            "monitor_id": str(self.monitor_id),
            "watchlist_sha256": self.watchlist_sha256,
            "num_entities": 1,
        }
        names = [name for name, _, _ in jobs]
        new = replace(new_batch(kind="sentiment_report", stages=(stage,)), settings=settings)
        batch_id = accept(self.database, [NewJob(name, {}) for name in [*names, *failing]], new)
        claimed = {job.custom_id: job for job in claim_batch(self.database, batch_id)}
        for number, (name, artifacts, metrics) in enumerate(jobs):
            made = () if number else records
            job = claimed[name]
            output = documents_output(metrics) if stage == "documents" else None
            success = published(self.store, job, artifacts, metrics=metrics, output=output, records=made)
            commit(self.database, [success])
        commit(self.database, [failure(claimed[name]) for name in failing])
        return batch_id

    def export(self, batch_id: UUID, out: Path, *, store: Store | None = None) -> SentimentFigures:
        return export_sentiment(self.database, store or self.store, self.summary(batch_id), out)

    def summary(self, batch_id: UUID) -> Summary:
        report = batch_status(self.database, batch_id)
        return Summary(report=report, elapsed_seconds=1, startup_seconds=0)


def documents_output(metrics: dict[str, object]) -> DocumentsOutput:
    """What a job of the stage `documents` with these metrics leaves."""
    flagged = metrics.get("num_flagged", {})
    return DocumentsOutput.model_validate(
        {"since": {}, "until": DAY, "num_flagged": flagged, "refused": metrics.get("refused", {})}
    )


@pytest.fixture
def scene(database: Engine) -> Scene:
    return Scene(database)


def history(monitor_id: UUID) -> tuple[Record, ...]:
    """Two documents about Acme, the second a follow-up; a window and an alert."""
    mentions = [
        Mention(
            document_id=f"d{number}",
            entity_id="acme",
            published_at=DAY + timedelta(hours=number + 1),
            relevance=90,
            topic=None,
            p_negative=0.8,
            p_neutral=0.15,
            p_positive=0.05,
            sentence=HOSTILE,
            title=HOSTILE,
            source="=wire",
            signature=b"",
        )
        for number in range(2)
    ]
    window = EntityWindow(
        entity_id="acme",
        size=WindowSize.DAY,
        starts_at=DAY,
        num_documents=1,
        num_followups=1,
        num_positive=0,
        num_neutral=0,
        num_negative=1,
        weight=80,
        weight_squared=6400,
        weighted_score=0,
        mean_score=-0.75,
        negative_share=1.0,
        negative_low=0.2,
        negative_high=1.0,
        trend=None,
        baseline_score=0.1,
        baseline_volume=0.5,
        change=-0.85,
    )
    alert = Alert(
        entity_id="acme",
        rule=AlertRule.SURGE,
        size=WindowSize.DAY,
        starts_at=DAY,
        statistic=4.0,
        p_value=1e-5,
        threshold=1e-4,
        observed=5.0,
        expected=1.0,
        document_ids=("d0",),
    )
    facts = [
        DocumentFacts(
            id=mention.document_id,
            sha256="0" * 64,
            published_at=mention.published_at,
            language="en",
            num_mentions=1,
        )
        for mention in mentions
    ]
    return (
        AnalysedDocuments(monitor_id=monitor_id, analysis="a", documents=facts, mentions=mentions),
        EntityHistory(
            monitor_id=monitor_id,
            entity_id="acme",
            read_at=datetime.now(UTC) + timedelta(minutes=1),
            since=DAY,
            policy=Policy(),
            novelties=[
                Novelty(document_id=f"d{number}", entity_id="acme", number=number + 1, first_id="d0")
                for number in range(2)
            ],
            windows=[window],
            alerts=[alert],
            change_number=None,
        ),
    )


def weeks(monitor_id: UUID, at: datetime, **windows: Mapping[datetime, int]) -> tuple[Record, ...]:
    """The last document at this instant; of each entity its weeks with so many documents."""
    analysed, days = history(monitor_id)
    assert isinstance(analysed, AnalysedDocuments)
    assert isinstance(days, EntityHistory)
    return (
        replace(
            analysed,
            documents=[replace(analysed.documents[0], published_at=at)],
            mentions=[replace(analysed.mentions[0], published_at=at)],
        ),
        *(
            replace(
                days,
                entity_id=entity_id,
                since=min(own),
                novelties=[],
                windows=[
                    replace(
                        days.windows[0],
                        entity_id=entity_id,
                        size=WindowSize.WEEK,
                        starts_at=starts_at,
                        num_documents=number,
                        num_negative=number,
                        num_followups=0,
                    )
                    for starts_at, number in own.items()
                ],
                alerts=[],
            )
            for entity_id, own in windows.items()
        ),
    )


def cells(page: str, name: str) -> list[str]:
    """The cells of an entity's row: alerts, documents, usual, score, ..."""
    row = page.partition(f'<th scope="row">{name}')[2].partition("</tr>")[0]
    return re.findall("<td[^>]*>(.*?)</td>", row)


def block(*ids: str) -> Artifact:
    lines = [json.dumps({"id": id_, "published_at": DAY.isoformat()}) for id_ in ids]
    return Artifact(
        name="documents.jsonl", media_type="application/jsonl", body="".join(f"{x}\n" for x in lines).encode()
    )


def report(*, text: str = "R") -> tuple[Artifact, ...]:
    return (
        Artifact(name="report.md", media_type="text/markdown", body=f"{text} ![c](chart.svg)".encode()),
        Artifact(name="report.html", media_type="text/html", body=text.encode()),
        Artifact(name="report.json", media_type="application/json", body=b"{}"),
        Artifact(name="chart.svg", media_type="image/svg+xml", body=b"<svg/>"),
        Artifact(name="chart.png", media_type="image/png", body=b"png"),
    )


def report_metrics(day: str) -> dict[str, object]:
    return {"entity_id": "acme", "starts_at": f"{day}T00:00:00+00:00", "num_sentences_kept": 3}


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_documents_become_rows_and_a_page_that_escapes_them(scene: Scene, tmp_path: Path) -> None:
    metrics: dict[str, object] = {"num_documents": 2, "num_unlinked": 1, "num_flagged": {"html_removed": 1}}
    batch_id = scene.batch(
        "documents",
        [("block-0", [block("d0", "d1")], metrics), ("block-1", [block("d2")], {"num_documents": 1})],
        records=history(scene.monitor_id),
    )

    figures = scene.export(batch_id, tmp_path)

    assert [row["id"] for row in rows(tmp_path / "documents.jsonl")] == ["d0", "d1", "d2"]
    assert (figures.documents.num_documents, figures.documents.num_unlinked) == (3, 1)
    assert (figures.mentions.num_mentions, figures.mentions.num_followups) == (2, 1)
    mentions = rows(tmp_path / "mentions.jsonl")
    assert [(row["novelty"], row["first_id"]) for row in mentions] == [(1, "d0"), (2, "d0")]
    assert mentions[0]["score"] == pytest.approx(-0.75)
    assert [row["key"] for row in rows(tmp_path / "alerts.jsonl")] == ["acme/surge/day/2026-03-02T00:00:00Z"]
    table = list(csv.DictReader((tmp_path / "windows.csv").read_text().splitlines()))
    assert [(row["entity_id"], row["mean_score"]) for row in table] == [("acme", "-0.75")]
    page = (tmp_path / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Acme &lt;b&gt;Steel&lt;/b&gt;" in page
    assert json.loads((tmp_path / "summary.json").read_text())["sentiment"]["num_alerts"] == 1


@pytest.mark.parametrize(
    ("hours", "acme", "borealis", "words", "shown"),
    [
        (156, {-7: 3, 0: 4}, {-7: 7}, "the week of 2 to 8 March 2026", ["4", "0"]),
        (36, {-7: 3, 0: 4}, {-7: 7, 0: 5}, "the week of 23 February to 1 March 2026", ["3", "7"]),
        (36, {0: 4}, {0: 5}, "the week of 2 to 8 March 2026", ["4", "5"]),
        (36, {-7: 3}, {0: 5}, "the week of 23 February to 1 March 2026", ["3", "0"]),
    ],
)
def test_all_rows_are_of_the_week_that_the_heading_names(
    database: Engine,
    tmp_path: Path,
    hours: int,
    acme: dict[int, int],
    borealis: dict[int, int],
    words: str,
    shown: list[str],
) -> None:
    scene = Scene(database, entities=(ACME, BOREALIS))
    given = {
        entity_id: {DAY + timedelta(days=days): number for days, number in own.items()}
        for entity_id, own in (("acme", acme), ("borealis", borealis))
    }
    metrics: dict[str, object] = {"num_documents": 1}
    records = weeks(scene.monitor_id, DAY + timedelta(hours=hours), **given)
    batch_id = scene.batch("documents", [("block-0", [block("d0")], metrics)], records=records)

    scene.export(batch_id, tmp_path)

    page = (tmp_path / "index.html").read_text()
    assert f"What changed in {words}:" in page
    assert [cells(page, name)[1] for name in ("Acme", "Borealis")] == shown


def test_reports_are_written_in_every_format_with_their_statement(scene: Scene, tmp_path: Path) -> None:
    batch_id = scene.batch("reports", [("acme-day-2026-03-02", report(), report_metrics("2026-03-02"))])

    figures = scene.export(batch_id, tmp_path)

    names = {path.name for path in (tmp_path / "reports").iterdir()}
    assert names == {
        f"acme-day-2026-03-02.{suffix}" for suffix in ("md", "html", "json", "svg", "png", "statement.json")
    }
    assert "(acme-day-2026-03-02.svg)" in (tmp_path / "reports/acme-day-2026-03-02.md").read_text()
    assert "reports/acme-day-2026-03-02.html" in (tmp_path / "index.html").read_text()
    assert figures.num_reports == 1
    assert figures.num_sentences_kept == 3


def test_second_export_replaces_the_first_and_leaves_other_files_alone(scene: Scene, tmp_path: Path) -> None:
    first = scene.batch("reports", [("acme-day-2026-03-02", report(), report_metrics("2026-03-02"))])
    second = scene.batch("reports", [("acme-day-2026-03-03", report(), report_metrics("2026-03-03"))])
    scene.export(first, tmp_path)
    (tmp_path / "reports/mine.html").write_text("mine")
    (tmp_path / "rejected.jsonl").write_text("{}\n")

    scene.export(second, tmp_path)

    assert {path.stem for path in (tmp_path / "reports").glob("*.html")} == {"acme-day-2026-03-03", "mine"}
    assert (tmp_path / "rejected.jsonl").read_text() == "{}\n"
    assert not list(tmp_path.glob(".export-*"))


def test_altered_report_is_named_and_left_out(scene: Scene, tmp_path: Path) -> None:
    reports = [
        ("acme-day-2026-03-02", report(), report_metrics("2026-03-02")),
        ("acme-x", report(text="other"), report_metrics("2026-03-03")),
    ]
    batch_id = scene.batch("reports", reports)
    altered_job = job_ids(scene.database, batch_id)[1]
    alter_place(scene.store, artifact_place(scene.database, altered_job), b"altered")

    summary = scene.summary(batch_id)
    export_sentiment(scene.database, scene.store, summary, tmp_path)

    assert [altered.custom_id for altered in summary.altered] == ["acme-x"]
    assert {path.stem for path in (tmp_path / "reports").glob("*.html")} == {"acme-day-2026-03-02"}
    assert json.loads((tmp_path / "summary.json").read_text())["altered"] == [summary.altered[0].as_json()]


def test_failed_jobs_are_listed_and_told_on_the_page(scene: Scene, tmp_path: Path) -> None:
    batch_id = scene.batch(
        "documents", [("block-0", [block("d0")], {"num_documents": 1})], failing=["block-1"]
    )

    scene.export(batch_id, tmp_path)

    assert [(row["id"], row["stage"]) for row in rows(tmp_path / "failed.jsonl")] == [
        ("block-1", "documents")
    ]
    assert "1 job failed" in (tmp_path / "index.html").read_text()


def test_collected_documents_that_were_refused_are_written(scene: Scene, tmp_path: Path) -> None:
    refused = Artifact(name="rejected.jsonl", media_type="application/jsonl", body=b'{"code":"x"}\n')
    batch_id = scene.batch("collect", [("source-0", [refused], {"num_rejected": 1, "num_known": 4})])

    figures = scene.export(batch_id, tmp_path)

    assert (tmp_path / "rejected.jsonl").read_bytes() == b'{"code":"x"}\n'
    assert figures.num_rejected == 1
    assert figures.documents.num_known == 4
