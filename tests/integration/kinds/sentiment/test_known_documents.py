"""Known documents of a file are skipped unread, and the latest version in the file counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, select, update

from db.tables import JobRow
from jobs.documents.document import Document, document_digest
from jobs.documents.maker import DocumentMaker
from jobs.kind import Context
from jobs.rejection import Rejected
from jobs.sources import FileSource, PrefixSource, Sources
from kinds.sentiment.document_filter import DocumentFilter
from kinds.sentiment.history import AnalysedDocuments, DocumentFacts, History, RecordDigests
from kinds.sentiment.intake import IntakeCounts, kind_settings
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.options import NONE, SentimentOptions
from kinds.sentiment.payload import CollectPayload, DocumentsPayload, SentimentSettings
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.stages.collect import collect
from kinds.sentiment.store.history import DatabaseHistory, write_records
from kinds.sentiment.store.monitors import new_id, put_monitor
from kinds.sentiment.tables import DocumentRow
from storage.memory import MemoryStore
from tests.integration.kinds.sentiment.test_sentiment_report import (
    CLASSIFIER,
    documents,
    pressing,
    submit_documents,
)
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from workers.connectors.sources import ConnectedSources
from workers.ports import StoredResources
from workers.settings import Profile, Settings

DAY = datetime(2026, 3, 2, tzinfo=UTC)


def version(number: int, id: str = "x") -> dict[str, str]:
    """Return a version; later versions are published later."""
    at = DAY + timedelta(days=number)
    return {"id": id, "text": f"Acme says it {number} times", "published_at": at.isoformat()}


def config(models: Path) -> Settings:
    return Settings(models_dir=models, profiles={"cpu": Profile(models=(CLASSIFIER,))})


class Desk:
    """A monitor that accepts files and stores their documents as if they had been analysed."""

    def __init__(self, database: Engine, folder: Path, settings: Settings) -> None:
        self.database = database
        self.rejected: list[Rejected] = []
        self.path = folder / "documents.jsonl"
        self._settings = settings
        self.monitor = Monitor(
            id=new_id(),
            tenant="default",
            name=str(new_id()),
            watchlist_sha256="0" * 64,
            num_entities=1,
            policy=Policy(),
            sources=(),
            targets=(),
            settings={},
            model=CLASSIFIER,
        )
        with database.begin() as connection:
            put_monitor(connection, self.monitor)

    @property
    def analysis(self) -> str:
        return str(kind_settings(self.monitor, {}, self._settings)["analysis"])

    def run(self, *lines: Mapping[str, str] | str) -> IntakeCounts:
        """Run these lines as a file until everything new is analysed."""
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        self.path.write_text(text)
        return self.run_file(self.path)

    def run_file(self, path: Path, **columns: str) -> IntakeCounts:
        options = SentimentOptions(embedder=NONE, summarizer=NONE, columns=columns)
        submission, intake = submit_documents(
            self.database, path, self.monitor, options, self._settings, self.rejected.append
        )
        with self.database.begin() as connection:
            rows = connection.execute(
                select(JobRow.id, JobRow.payload).where(JobRow.batch_id == submission.batch_id)
            ).all()
            read = [(row.id, DocumentsPayload.model_validate(row.payload).documents) for row in rows]
            write_records(connection, [(id_, self._analysed(block)) for id_, block in read])
        return intake

    def _analysed(self, block: Sequence[Document]) -> AnalysedDocuments:
        latest = {one.id: one for one in block}
        facts = [
            DocumentFacts(
                id=one.id,
                sha256=document_digest(one),
                published_at=one.published_at,
                language=None,
                num_mentions=0,
                record=bytes.fromhex(one.record or ""),
            )
            for one in latest.values()
        ]
        return AnalysedDocuments(
            monitor_id=self.monitor.id, analysis=self.analysis, documents=facts, mentions=()
        )

    def current(self) -> dict[str, datetime]:
        """Return the publication time of each document's current version."""
        columns = (DocumentRow.id, DocumentRow.published_at)
        with self.database.connect() as connection:
            rows = connection.execute(select(*columns).where(DocumentRow.monitor_id == self.monitor.id))
            return {row.id: row.published_at for row in rows}

    def change(self, **columns: object) -> None:
        """Overwrite a field in the rows of all documents."""
        with self.database.begin() as connection:
            connection.execute(
                update(DocumentRow).where(DocumentRow.monitor_id == self.monitor.id).values(**columns)
            )

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Record the statements on the table of documents while a file is read."""
        seen: list[str] = []

        def note(_: Connection, __: object, statement: str, *___: object) -> None:
            if "FROM documents" in statement and "job_id" not in statement:
                seen.append(statement)

        event.listen(self.database, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(self.database, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_manifest(write_scripted_encoder(folder / CLASSIFIER), CLASSIFIER, "classify")
    return folder


@pytest.fixture
def desk(database: Engine, models: Path, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path, config(models))


def test_a_correction_that_is_appended_counts(desk: Desk) -> None:
    desk.run(version(1))
    intake = desk.run(version(1), version(2))
    assert (intake.num_known, intake.num_documents) == (1, 1)
    assert desk.current() == {"x": DAY + timedelta(days=2)}


def test_a_correction_counts_though_the_known_version_has_no_record(desk: Desk) -> None:
    desk.run(version(1))
    desk.change(record=None)
    desk.run(version(1), version(2))
    assert desk.current() == {"x": DAY + timedelta(days=2)}


def test_an_earlier_version_is_left_out_if_the_known_one_is_in_the_file(desk: Desk) -> None:
    desk.run(version(2))
    for lines in ([version(1), version(2)], [version(2), version(1)]):
        intake = desk.run(*lines)
        assert (intake.num_known, intake.num_documents) == (2, 0)
        assert desk.current() == {"x": DAY + timedelta(days=2)}


def test_an_earlier_version_corrects_if_the_known_one_is_not_in_the_file(desk: Desk) -> None:
    desk.run(version(2))
    desk.run(version(1))
    assert desk.current() == {"x": DAY + timedelta(days=1)}


def test_a_known_line_is_not_read(desk: Desk) -> None:
    desk.run(version(1), version(2, "y"))
    broken, _ = DocumentMaker("", now=DAY, columns={}).digest(b"{broken")
    desk.change(record=broken)
    intake = desk.run("{broken", "{broken", "[]")
    assert (intake.num_known, intake.num_repeated, intake.num_rejected) == (1, 1, 1)
    assert [one.line for one in desk.rejected] == [3]


def test_refused_lines_are_told_each_time(desk: Desk) -> None:
    lines: list[Mapping[str, str] | str] = [version(1), {**version(2), "published_at": "soon"}, "[", "{}"]
    for _ in range(2):
        desk.rejected.clear()
        assert desk.run(*lines).num_rejected == 3
        assert [one.line for one in desk.rejected] == [2, 3, 4]


def test_what_was_analysed_otherwise_is_read_again(desk: Desk) -> None:
    desk.run(version(1))
    desk.change(analysis="another")
    intake = desk.run(version(1))
    assert (intake.num_known, intake.num_documents) == (0, 1)


def test_a_mapping_of_columns_reads_again_and_finds_what_says_the_same(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text,memo,published_at\nx,Acme rises,Acme falls,2026-03-02\n")
    assert desk.run_file(path).num_documents == 1
    assert desk.run_file(path, id="id").num_known == 1
    assert desk.run_file(path, text="memo").num_documents == 1


def test_what_is_known_by_its_content_alone_is_known_unread_the_next_time(desk: Desk) -> None:
    lines = [version(1), version(2, "y")]
    desk.run(*lines)
    desk.change(record=None)
    assert desk.run(*lines).num_known == 2
    with desk.statements() as seen:
        assert desk.run(*lines).num_known == 2
    assert len(seen) == 2  # whether there are any, and which records are known


def test_a_record_of_what_was_corrected_meanwhile_is_not_kept(desk: Desk) -> None:
    desk.run(version(1))
    desk.change(record=None)
    late = RecordDigests(monitor_id=desk.monitor.id, records=[("x", "of another version", b"r" * 16)])
    with desk.database.begin() as connection:
        write_records(connection, [(new_id(), late)])
    history = DatabaseHistory(desk.database)
    assert history.versions(desk.monitor.id, ["x"], analysis=desk.analysis)["x"].record is None


def test_nothing_is_looked_up_for_a_monitor_without_documents(desk: Desk) -> None:
    with desk.statements() as seen:
        desk.run(*(version(1, f"d{n}") for n in range(2_500)))
    assert len(seen) == 1
    with desk.statements() as seen:
        desk.run(*(version(1, f"d{n}") for n in range(2_500)))
    assert len(seen) == 3  # whether there are any, and twice which records are known


def test_a_record_of_another_monitor_is_not_known(desk: Desk, models: Path, tmp_path: Path) -> None:
    desk.run(version(1))
    other = Desk(desk.database, tmp_path, config(models))
    assert other.run(version(2, "y"), version(1)).num_documents == 2


VERSIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), min_size=1, max_size=8
)
"""Of an id three versions at most: more of one reading are told apart as documents that share it."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VERSIONS, st.data())
def test_a_growing_file_ends_with_the_latest_versions_however_often_it_is_run(
    database: Engine, models: Path, tmp_path: Path, versions: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    """The same version may be written in two ways, and rows may lack their record."""
    desk = Desk(database, tmp_path, config(models))
    lines = [
        json.dumps(version(number, id), separators=(",", ":") if is_dense else None)
        for id, number, is_dense in versions
    ]
    cuts = data.draw(st.sets(st.integers(1, len(lines)), max_size=3))
    for cut in sorted({*cuts, len(lines)}):
        desk.run(*data.draw(st.permutations(lines[:cut])))
        if data.draw(st.booleans()):
            desk.change(record=None)
    latest = {id: max(number for other, number, _ in versions if other == id) for id, _, _ in versions}
    assert desk.current() == {id: DAY + timedelta(days=number) for id, number in latest.items()}
    desk.run(*lines)
    assert desk.run(*lines).num_documents == 0


def test_a_source_leaves_out_what_is_known_across_its_files(desk: Desk, tmp_path: Path) -> None:
    desk.run(version(1), version(2, "y"))
    folder = tmp_path / "in"
    folder.mkdir()
    store = MemoryStore()
    for name, lines in {"a": [version(1), version(3, "z")], "b": [version(1), version(2, "y")]}.items():
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        (folder / f"{name}.jsonl").write_bytes(body)
        store.put(f"in/{name}.jsonl", body, media_type="application/jsonl")
    for source in (FileSource(path=str(folder)), PrefixSource(prefix="in/")):
        known = DocumentFilter(
            DatabaseHistory(desk.database), monitor_id=desk.monitor.id, analysis=desk.analysis
        )
        read = known.unknown(ConnectedSources(store).fetch(source, known.records))
        assert [one.id for one in read if isinstance(one, Document)] == ["z"]
        assert (known.num_read, known.num_known, known.num_repeated) == (3, 2, 1)


def feed(*days: int) -> str:
    """Return items of a page, which all have the link of the page."""
    items = "".join(
        f"<item><title>Story {day}</title><link>https://example.com/news</link>"
        f"<description>Acme, day {day}</description><pubDate>{day} Mar 2026 08:00 GMT</pubDate></item>"
        for day in days
    )
    return f"<rss version='2.0'><channel><title>Wire</title>{items}</channel></rss>"


@pytest.mark.parametrize("has_records", [True, False])
def test_items_of_a_feed_that_share_a_link_stay_the_same_documents_as_it_rolls_on(
    desk: Desk, tmp_path: Path, has_records: bool
) -> None:
    path = tmp_path / "wire.xml"
    num_new = []
    for days in ([1], [2, 1], [3, 2], [2], [4], [4, 3], [1], [5, 4, 3, 2, 1]):
        path.write_text(feed(*days))
        num_new.append(desk.run_file(path).num_documents)
        if not has_records:
            desk.change(record=None)
    assert num_new == [1, 1, 1, 0, 1, 0, 0, 1]
    assert sorted(at.day for at in desk.current().values()) == [1, 2, 3, 4, 5]


def test_rows_of_a_growing_file_that_share_a_link_stay_the_same_documents(desk: Desk) -> None:
    rows = [
        {"url": "https://example.com/news", "title": f"Story {day}", "published_at": f"2026-03-0{day}"}
        for day in range(1, 6)
    ]
    num_new = [desk.run(*given).num_documents for given in (rows[:1], rows[:2], rows[3::-1], rows, rows[4:])]
    assert num_new == [1, 1, 2, 1, 0]
    assert sorted(at.day for at in desk.current().values()) == [1, 2, 3, 4, 5]


def test_a_worker_that_collects_leaves_what_its_source_is_known_by(desk: Desk, tmp_path: Path) -> None:
    desk.run(version(1))
    (tmp_path / "a.csv").write_text("id,text,published_at\n" + ",".join(version(1).values()) + "\n")
    own = kind_settings(desk.monitor, {}, desk._settings)
    store = MemoryStore()
    ports: dict[type[object], object] = {
        History: DatabaseHistory(desk.database),
        Sources: ConnectedSources(store),
    }
    context = SimpleNamespace(port=ports.__getitem__, resources=StoredResources(store))
    payload = CollectPayload(source=FileSource(path=str(tmp_path / "a.csv")))
    for num_records in (1, 0):
        result = collect(payload, SentimentSettings.model_validate(own), cast(Context, context))
        assert (result.metrics["num_known"], len(result.records)) == (1, num_records)
        with desk.database.begin() as connection:
            write_records(connection, [(new_id(), record) for record in result.records])


def test_a_worker_keeps_the_record_of_what_it_analysed(
    database: Engine, models: Path, tmp_path: Path
) -> None:
    lines = documents(2)
    with pressing(database, models, tmp_path) as press:
        press.run(lines, until_stage=0)
        with database.connect() as connection:
            records = set(connection.scalars(select(DocumentRow.record)))
        maker = DocumentMaker("", now=DAY, columns={})
        assert records == {maker.digest(json.dumps(line).encode())[0] for line in lines}
