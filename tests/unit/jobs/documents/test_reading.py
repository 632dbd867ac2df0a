"""Files as people have them become documents, and what is none is named."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from jobs.documents.document import MAX_TEXT_BYTES
from jobs.documents.maker import _BEGINS_WITH_A_WORD, _LETTER, _NO_WORDS
from jobs.documents.reading import read_documents, read_rows
from jobs.instants import parse_instant
from jobs.intake.columns import ColumnMappingError
from jobs.rejection import Rejected
from tests.unit.jobs.documents.files import GOOD, NOW, jsonl, read, refusal_of, write

FEED = """<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0"><channel><title>Wire</title><language>en-us</language>
<item><guid>n1</guid><title>Acme beats</title>
<description>&lt;p&gt;Acme &amp;amp; Bolt&lt;/p&gt;</description>
<pubDate>Wed, 01 May 2024 10:00:00 +0200</pubDate></item>
<item><link>https://news.example/2</link><title>Bolt falls</title>
<pubDate>Thu, 02 May 2024 10:00:00 GMT</pubDate></item>
<item><guid>n3</guid><title>No date</title></item>
</channel></rss>"""


def test_usual_column_names_are_understood(tmp_path: Path) -> None:
    content = (
        "Tweet ID,Headline,Body,Pub Date,Publisher,Lang,likes\n7,Acme beats,It did.,2024-05-01,Wire,en-US,3\n"
    )
    (one,) = read(write(tmp_path, "a.csv", content)).documents
    assert (one.id, one.title, one.text, one.source, one.language) == (
        "7",
        "Acme beats",
        "It did.",
        "Wire",
        "en",
    )
    assert one.published_at == datetime(2024, 5, 1, tzinfo=UTC)


def test_mapping_goes_before_the_usual_names(tmp_path: Path) -> None:
    content = "text,memo,when\nwrong,right words,2024-05-01\n"
    (one,) = read(write(tmp_path, "a.csv", content), {"text": "memo", "published_at": "when"}).documents
    assert one.text == "right words"


@pytest.mark.parametrize("columns", [{"txt": "a"}, {"headline": "title"}])
def test_mapping_of_no_field_is_refused_at_once(tmp_path: Path, columns: dict[str, str]) -> None:
    with pytest.raises(ColumnMappingError, match="did you mean"):
        read_documents(tmp_path / "a.csv", now=NOW, columns=columns)


def test_mapping_to_no_column_refuses_the_file(tmp_path: Path) -> None:
    refused = read(write(tmp_path, "a.csv", "text,date\na,2024-05-01\n"), {"text": "memo"}).refused
    assert refused is not None
    assert refused.code == "column_mapping_invalid"


def test_headline_alone_is_a_document_and_gets_a_stable_id(tmp_path: Path) -> None:
    content = jsonl({"headline": "Acme beats", "date": "2024-05-01", "source": "Wire"})
    (one,) = read(write(tmp_path, "a.jsonl", content)).documents
    (again,) = read(
        write(tmp_path, "b.csv", "source,date,title\nWire,2024-05-01T00:00Z,Acme beats\n")
    ).documents
    assert one.id.startswith("sha256-")
    assert one.model_copy(update={"record": again.record}) == again


def test_url_is_id_and_names_the_source(tmp_path: Path) -> None:
    long = "https://www.news.example/" + "a" * 300
    content = jsonl(
        *(dict[str, object](url=url, text="Acme", date="2024-05-01") for url in ("https://x.example/1", long))
    )
    first, second = read(write(tmp_path, "a.jsonl", content)).documents
    assert (first.id, first.source) == ("https://x.example/1", "x.example")
    assert (second.id[:7], second.source) == ("sha256-", "news.example")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "feed", "a.csv.gz"])
def test_gzip_is_read_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    content = "id,text,date\ngood,Bolt rises,2024-05-01\n" if "csv" in name else jsonl(dict(GOOD))
    assert read(write(tmp_path, name, gzip.compress(content.encode()))).ids == ["good"]


def test_bom_crlf_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfid,text,date\r\n\r\na,x y,2024-05-01\r\n,,\r\nb,z,2024-05-01\r\n"
    outcome = read(write(tmp_path, "a.csv", content))
    assert (outcome.ids, outcome.rejected) == (["a", "b"], [])


def test_parquet_is_read_with_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "id": [1, 2, 3],
            "text": ["Acme", None, "Bolt"],
            "created_at": pa.array([NOW, NOW, NOW.replace(year=1971)], pa.timestamp("ms", "UTC")),
            "vector": [[1.0], [2.0], [3.0]],
        }
    )
    parquet.write_table(table, path)
    outcome = read(path)
    assert outcome.ids == ["1"]
    assert outcome.documents[0].published_at == NOW
    assert outcome.codes == [(2, "document_empty"), (3, "document_date_implausible")]


def test_feed_entries_are_documents_with_the_feed_as_source(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.xml", FEED))
    assert outcome.ids == ["n1", "https://news.example/2"]
    first = outcome.documents[0]
    assert (first.source, first.language, first.title) == ("Wire", "en", "Acme beats")
    assert first.published_at == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert outcome.codes == [(3, "document_undated")]


def test_atom_is_read_too(tmp_path: Path) -> None:
    entry = "<entry><id>e</id><updated>2024-05-01T00:00:00Z</updated><content>Up</content></entry>"
    (one,) = read(write(tmp_path, "a", f'<feed xmlns="http://www.w3.org/2005/Atom">{entry}</feed>')).documents
    assert (one.id, one.text) == ("e", "Up")


@pytest.mark.parametrize(
    "written",
    [
        "2014-01-01T03:59:03Z",
        "2014-01-01 03:59:03",
        "20140101T035903",
        "2014-01-01T04:59:03+01:00",
        "2014/01/01 03:59:03",
        "2014-01-01 03:59:03 UTC",
        "Wed Jan 01 03:59:03 +0000 2014",
        "Wed, 01 Jan 2014 03:59:03 GMT",
        "1 Jan 2014 04:59:03 +0100",
        1388548743,
        1388548743.0,
        "1388548743",
        "1388548743000",
        1388548743000,
        "1388548743000000",
        datetime(2014, 1, 1, 3, 59, 3),  # noqa: DTZ001 (what a database without zones gives)
    ],
)
def test_dates_of_every_usual_form_are_one_instant(written: object) -> None:
    assert parse_instant(written) == datetime(2014, 1, 1, 3, 59, 3, tzinfo=UTC)


@pytest.mark.parametrize("written", ["20140101", 20140101, "2014-01-01", "01 Jan 2014 00:00 -0000"])
def test_date_alone_is_its_midnight(written: object) -> None:
    assert parse_instant(written) == datetime(2014, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    ["yesterday", "01/02/2024", "2024-13-01", "", "x" * 100, True, [], "1e300", "0001-01-01T00:00+14:00"],
)
def test_what_is_no_date_is_none(written: object) -> None:
    assert parse_instant(written) is None


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"id": "x", "text": "Acme"}, "document_undated"),
        ({"id": "x", "text": "Acme", "date": None}, "document_undated"),
        ({"id": "x", "text": "Acme", "date": "soon"}, "document_date_invalid"),
        ({"id": "x", "text": "Acme", "date": 0}, "document_date_implausible"),
        ({"id": "x", "text": "Acme", "date": "1970-01-01"}, "document_date_implausible"),
        ({"id": "x", "text": "Acme", "date": "2024-06-03"}, "document_date_implausible"),
        ({"id": "x", "text": " ", "title": "", "date": "2024-05-01"}, "document_empty"),
        ({"id": "x", "date": "2024-05-01"}, "document_empty"),
        ({"id": "x", "text": "😀", "date": "2024-05-01"}, "document_without_words"),
        (
            {"id": "x", "text": "https://t.co/abc 100% 🚀 &amp;", "date": "2024-05-01"},
            "document_without_words",
        ),
        ({"id": "x", "text": "<img src='a.png'><br>", "date": "2024-05-01"}, "document_without_words"),
        ({"id": "x", "text": "a" * (MAX_TEXT_BYTES + 1), "date": "2024-05-01"}, "document_too_large"),
        ({"id": "x", "text": "é" * (MAX_TEXT_BYTES // 2 + 1), "date": "2024-05-01"}, "document_too_large"),
        ({"id": "x", "text": ["Acme"], "date": "2024-05-01"}, "field_invalid"),
        ({"id": "x" * 201, "text": "Acme", "date": "2024-05-01"}, "field_invalid"),
        ({"id": "a\nb", "text": "Acme", "date": "2024-05-01"}, "field_invalid"),
    ],
)
def test_what_is_no_document_is_named_and_the_others_go_on(
    tmp_path: Path, line: dict[str, object], code: str
) -> None:
    assert refusal_of(tmp_path, line) == code


@pytest.mark.parametrize(
    ("given", "shown"),
    [(" n-1 ", "n-1"), (7, "7"), (None, None), ("", None), ("a\nb", None), ("x" * 201, None), (["n"], None)],
)
def test_a_refused_document_is_named_by_its_id_where_it_has_one(
    tmp_path: Path, given: object, shown: str | None
) -> None:
    path = write(tmp_path, "a.jsonl", jsonl({"id": given, "text": "Acme"}))
    (refused,) = read_documents(path, now=NOW)
    assert isinstance(refused, Rejected)
    assert (refused.id, refused.as_json().get("id")) == (shown, shown)


def test_a_clock_that_is_hours_ahead_is_believed(tmp_path: Path) -> None:
    ahead = (NOW + timedelta(hours=23)).isoformat()
    assert read(write(tmp_path, "a.jsonl", jsonl({"text": "Acme", "date": ahead}))).codes == []


def test_text_of_200_kilobytes_is_read_whole(tmp_path: Path) -> None:
    text = "Acme rises. " * 17_000
    (one,) = read(write(tmp_path, "a.jsonl", jsonl({"text": text, "date": "2024-05-01"}))).documents
    assert one.text == text.strip()


def test_same_document_twice_is_counted_once(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.jsonl", jsonl(dict(GOOD), {**GOOD, "id": "b"}, dict(GOOD))))
    assert outcome.ids == ["good", "b"]
    assert outcome.reading is not None
    assert outcome.reading.identities.num_duplicates == 1


def test_later_time_corrects_and_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    old: dict[str, object] = dict(GOOD)
    new: dict[str, object] = {**GOOD, "text": "Bolt falls", "published_at": "2024-05-02"}
    forward = read(write(tmp_path, "a.jsonl", jsonl(old, new)))
    backward = read(write(tmp_path, "b.jsonl", jsonl(new, old)))
    assert [one.text for one in forward.documents] == ["Bolt rises", "Bolt falls"]
    assert [one.text for one in backward.documents] == ["Bolt falls"]
    assert forward.reading is not None
    assert backward.reading is not None
    assert (forward.reading.identities.num_corrections, backward.reading.identities.num_superseded) == (1, 1)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "file_empty"),
        ("\n\n", "file_empty"),
        ("id,text,date\n", "file_header_only"),
        ("id,date\n1,2024-05-01\n", "missing_column"),
        ("id,text\n1,Acme\n", "missing_column"),
        ("text,date,text\na,2024-05-01,b\n", "duplicate_column"),
    ],
)
def test_file_without_documents_is_refused_whole(tmp_path: Path, content: str, code: str) -> None:
    refused = read(write(tmp_path, "a.csv", content)).refused
    assert refused is not None
    assert refused.code == code


def test_row_of_another_length_is_refused_alone(tmp_path: Path) -> None:
    content = "id,text,date\n1,a,2024-05-01,x\n2,b\n3,c,2024-05-01\n"
    outcome = read(write(tmp_path, "a.csv", content))
    assert outcome.ids == ["3"]
    assert outcome.codes == [(2, "csv_extra_cell"), (3, "csv_missing_cell")]


def test_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        refused = read(tmp_path / name).refused
        assert refused is not None
        assert refused.code == "file_unreadable"


def test_rows_of_a_query_are_documents() -> None:
    rows: list[dict[str, object]] = [
        {"id": 5, "body": "Acme", "created": NOW},
        {"id": 6, "body": None, "created": NOW},
    ]
    first, second = read_rows("query", rows, now=NOW)
    assert first.__class__.__name__ == "Document"
    assert getattr(second, "code", "") == "document_empty"


@given(st.text("URLurlwhtps:/.<>&;#_ 1\u00e9", min_size=1, max_size=12))
def test_a_text_that_begins_with_a_word_has_words(text: str) -> None:
    if _BEGINS_WITH_A_WORD.match(text):
        assert _LETTER.search(_NO_WORDS.sub(" ", text))
