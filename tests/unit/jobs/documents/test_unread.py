"""A record that is known is left out before it is parsed, whatever the format; every other one is read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.documents import maker, reading
from jobs.documents.document import Document, document_digest
from jobs.documents.maker import DocumentMaker
from jobs.documents.reading import Reading, read_documents, read_feed, read_rows
from jobs.intake.records import unparsed_records
from jobs.rejection import FileRejectedError, Rejected
from tests.unit.jobs.documents.files import GOOD, NOW, jsonl, write

ROWS = [{"id": f"d{n}", "text": f"Acme {n} rises", "published_at": "2024-05-01"} for n in range(6)]


def as_jsonl(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    return write(folder, "a.jsonl", jsonl(*rows))


def as_csv(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    lines = ["id,text,published_at", *(",".join(row.values()) for row in rows)]
    return write(folder, "a.csv", "\n".join(lines) + "\n")


def as_parquet(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), folder / "a.parquet")
    return folder / "a.parquet"


def as_feed(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    items = "".join(
        f"<item><guid>{row['id']}</guid><title>{row['text']}</title>"
        f"<pubDate>{row['published_at']}</pubDate></item>"
        for row in rows
    )
    return write(folder, "a.xml", f"<rss version='2.0'><channel>{items}</channel></rss>")


def read(path: Path, known: frozenset[bytes] = frozenset(), **columns: str) -> list[Document | Rejected]:
    return list(read_documents(path, now=NOW, columns=columns, known=lambda _: known))


def records_of(read: Sequence[Document | Rejected]) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(one.record or "") for one in read if isinstance(one, Document))


def names(read: Sequence[Document | Rejected]) -> list[str]:
    """Ids of documents; line and code of what was refused."""
    return [one.id if isinstance(one, Document) else f"{one.line} {one.code}" for one in read]


class CountingMaker(DocumentMaker):
    """Keeps the lines that documents were made of."""

    def __init__(self) -> None:
        super().__init__("a", now=NOW, columns={})
        self.lines: list[int] = []

    def make(
        self, line: int, fields: Mapping[str, object], *, record: str | None = None
    ) -> Document | Rejected:
        self.lines.append(line)
        return super().make(line, fields, record=record)


@pytest.mark.parametrize("write_file", [as_jsonl, as_csv, as_parquet, as_feed])
def test_only_what_is_not_known_is_read(
    tmp_path: Path, write_file: Callable[[Path, Sequence[Mapping[str, str]]], Path]
) -> None:
    known = records_of(read(write_file(tmp_path, ROWS[:4])))
    assert len(known) == 4
    assert names(read(write_file(tmp_path, ROWS), known)) == ["d4", "d5"]


def test_no_document_is_made_of_a_known_record(tmp_path: Path) -> None:
    path = as_csv(tmp_path, ROWS)
    everything = list(unparsed_records(path, lambda given: given))
    known = records_of(list(Reading(everything, CountingMaker())))
    counting = CountingMaker()
    list(Reading(everything[:2] + everything, counting, lambda _: known - records_of(read(path)[3:4])))
    assert counting.lines == [5]


def test_a_known_line_of_json_is_not_even_parsed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"no": json\n' + jsonl(GOOD))
    assert names(read(path)) == ["1 json_invalid", "good"]
    broken, _ = DocumentMaker("", now=NOW, columns={}).digest(b'{"no": json')
    assert names(read(path, frozenset({broken}))) == ["good"]


@pytest.mark.parametrize("write_file", [as_jsonl, as_csv])
def test_refused_records_are_told_each_time_with_their_lines(
    tmp_path: Path, write_file: Callable[[Path, Sequence[Mapping[str, str]]], Path]
) -> None:
    rows = [ROWS[0], {**ROWS[1], "published_at": "soon"}, ROWS[2], {**ROWS[3], "text": ""}]
    path = write_file(tmp_path, rows)
    first = read(path)
    again = read(path, records_of(first))
    assert again == [one for one in first if isinstance(one, Rejected)]
    header = path.suffix == ".csv"
    assert [one.line for one in again if isinstance(one, Rejected)] == [2 + header, 4 + header]


def test_lines_keep_their_numbers_behind_blank_long_and_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.intake.records._CHUNK_BYTES", 50)
    monkeypatch.setattr("jobs.intake.records.MAX_LINE_BYTES", 1_000)
    monkeypatch.setattr(reading, "MAX_RECORDS_PER_QUERY", 2)
    lines = [json.dumps(ROWS[0]), "", "x" * 2_000, json.dumps(ROWS[1]), "  \r", "{}", "[]"]
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    known = records_of(read(path))
    expected = ["3 body_too_large", "6 document_undated", "7 json_invalid"]
    assert names(read(path, known)) == expected


def test_the_white_space_around_a_line_does_not_matter(tmp_path: Path) -> None:
    known = records_of(read(write(tmp_path, "a.jsonl", jsonl(GOOD))))
    assert read(write(tmp_path, "b.jsonl", f" \t{json.dumps(GOOD)}\r\n"), known) == []
    assert names(read(write(tmp_path, "c.jsonl", json.dumps(GOOD).replace(": ", ":")), known)) == ["good"]


def test_columns_that_are_not_read_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,published_at,likes\nd,Acme rises,2024-05-01,1\n")
    known = records_of(read(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("likes,published_at,id,text\n7,2024-05-01,d,Acme rises\n")
    assert read(tmp_path / "a.csv", known) == []


def test_another_mapping_of_columns_reads_anew(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", jsonl({**GOOD, "memo": "Bolt falls"}))
    known = records_of(read(path))
    assert read(path, known) == []
    (other,) = read(path, known, text="memo")
    assert isinstance(other, Document)
    assert other.text == "Bolt falls"


def test_another_version_of_the_reader_reads_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_jsonl(tmp_path, ROWS)
    known = records_of(read(path))
    monkeypatch.setattr(maker, "READER_VERSION", maker.READER_VERSION + 1)
    assert len(read(path, known)) == len(ROWS)


def test_the_record_is_no_part_of_what_a_document_says(tmp_path: Path) -> None:
    (one,) = read(write(tmp_path, "a.jsonl", jsonl(GOOD)))
    (other,) = read(as_csv(tmp_path, [{key: str(value) for key, value in GOOD.items()}]))
    assert isinstance(one, Document)
    assert isinstance(other, Document)
    assert one.record != other.record
    assert document_digest(one) == document_digest(other)


def test_a_question_is_bounded_and_holds_every_record_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_RECORDS_PER_QUERY", 4)
    asked: list[Sequence[bytes]] = []

    def known(digests: Sequence[bytes]) -> frozenset[bytes]:
        asked.append(digests)
        return frozenset()

    documents = list(read_documents(as_jsonl(tmp_path, ROWS), now=NOW, known=known))
    assert [len(digests) for digests in asked] == [4, 2]
    made = [bytes.fromhex(one.record or "") for one in documents if isinstance(one, Document)]
    assert [digest for digests in asked for digest in digests] == made


def test_long_records_wait_for_an_answer_in_bounded_memory(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "id": f"d{n}", "text": f"Acme {n} " * 30_000} for n in range(40)]
    sizes: list[int] = []

    def known(digests: Sequence[bytes]) -> frozenset[bytes]:
        sizes.append(len(digests))
        return frozenset()

    assert sum(1 for _ in read_documents(as_jsonl(tmp_path, rows), now=NOW, known=known)) == 40
    assert max(sizes) * len(rows[0]["text"]) < 8 * 2**20


def test_what_stands_before_a_broken_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.intake.records._CHUNK_BYTES", 1_000)
    rows = [{**GOOD, "id": f"d{n}", "text": f"Acme {n * 7919 % 10_007} rises"} for n in range(5_000)]
    path = write(tmp_path, "a.jsonl.gz", gzip.compress(jsonl(*rows).encode())[:-2_000])
    found: list[Document | Rejected] = []
    with pytest.raises(FileRejectedError):
        found.extend(read_documents(path, now=NOW))
    assert len(found) > 1_000


def test_rows_of_a_query_and_entries_of_a_feed_are_left_out_too(tmp_path: Path) -> None:
    known = records_of(list(read_rows("query", ROWS[:5], now=NOW)))
    assert names(list(read_rows("query", ROWS, now=NOW, known=lambda _: known))) == ["d5"]
    body = as_feed(tmp_path, ROWS).read_bytes()
    entries = records_of(list(read_feed("feed", body, now=NOW)))
    assert list(read_feed("feed", body, now=NOW, known=lambda _: entries)) == []
