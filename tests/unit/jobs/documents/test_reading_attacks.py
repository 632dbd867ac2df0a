"""Files of documents that want to hurt: each gets its named refusal, and nothing grows."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.documents.feed import MAX_FEED_BYTES, feed_records
from jobs.documents.reading import read_documents, read_feed
from jobs.intake.files import MAX_LINE_BYTES
from jobs.rejection import FileRejectedError, Rejected
from tests.unit.jobs.documents.files import GOOD, NOW, Outcome, jsonl, read, refusal_of, write

MAX_MEMORY_BYTES = 8 * MAX_LINE_BYTES


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "json_too_deep"),
        ('{"text": "a", "text": "b", "date": "2024-05-01"}', "json_duplicate_key"),
        ('{"text": "a", "date": NaN}', "json_number_invalid"),
        ('{"text": "a", "date": Infinity}', "json_number_invalid"),
        ('{"text": "a", "date": 1e999}', "json_number_invalid"),
        ('{"text": "a", "date": ' + "1" * 5000 + "}", "json_number_invalid"),
        ('{"text": "a"', "json_invalid"),
        ("[1]", "json_invalid"),
        (r'{"text": "a\u0000", "date": "2024-05-01"}', "text_invalid_unicode"),
        (r'{"text": "a\ud800", "date": "2024-05-01"}', "text_invalid_unicode"),
        ('{"text": "use AKIAABCDEFGHIJ234567", "date": "2024-05-01"}', "secret_in_input"),
        ('{"id": "AKIAABCDEFGHIJ234567", "text": "a", "date": "2024-05-01"}', "secret_in_input"),
    ],
)
def test_hostile_line_is_refused_alone(tmp_path: Path, line: str, code: str) -> None:
    assert refusal_of(tmp_path, line) == code


def test_secret_is_not_repeated(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    content = jsonl({"text": secret, "date": "soon"}, f'{{"text": "{secret}', {**GOOD, "title": secret})
    outcome = read(write(tmp_path, "a.jsonl", content))
    assert [code for _, code in outcome.codes] == ["secret_in_input"] * 3
    assert secret not in "".join(map(str, outcome.rejected))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_utf16_without_a_mark_is_refused_whole(tmp_path: Path, name: str, encoding: str) -> None:
    refused = read(write(tmp_path, name, jsonl(dict(GOOD)).encode(encoding))).refused
    assert refused is not None
    assert refused.code == "text_invalid_unicode"


def test_bytes_that_are_not_utf8_refuse_their_line_alone(tmp_path: Path) -> None:
    content = b'{"text": "a\xff", "date": "2024-05-01"}\n' + jsonl(dict(GOOD)).encode()
    assert read(write(tmp_path, "a.jsonl", content)).codes == [(1, "text_invalid_unicode")]


def read_within_memory(path: Path) -> Outcome:
    tracemalloc.start()
    try:
        outcome = read(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY_BYTES
    finally:
        tracemalloc.stop()
    return outcome


def test_line_of_50_megabytes_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(50):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + jsonl(dict(GOOD)).encode())
    outcome = read_within_memory(path)
    assert (outcome.ids, outcome.codes) == (["good"], [(1, "body_too_large")])


@pytest.mark.attack("compressed file that expands without bound")
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.xml.gz"])
def test_gzip_bomb_is_refused_in_bounded_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        for _ in range(60):
            file.write(packer.compress((b"\n" * 9 + b"#" * 9000 + b"\n") * 100))
        file.write(packer.flush())
    refused = read_within_memory(path).refused
    assert refused is not None
    assert refused.code == "body_too_large"


def test_keys_without_end_do_not_fill_the_memory(tmp_path: Path) -> None:
    lines = ({"text": "Acme", "date": "2024-05-01", f"k{number}" * 50: 1} for number in range(1_500))
    outcome = read_within_memory(write(tmp_path, "a.jsonl", jsonl(*lines)))
    assert len(outcome.documents) == 1  # they say the same


def test_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a"] * 1000, "date": ["2024-05-01"] * 1000}), path)
    whole = path.read_bytes()
    for content in (
        b"",
        b"PAR1",
        b"PAR1" + b"x" * 100 + b"PAR1",
        whole[:-20],
        whole[:50] + b"\xff" * 90 + whole[140:],
    ):
        refused = read(write(tmp_path, "b.parquet", content)).refused
        assert refused is not None
        assert refused.code == "parquet_malformed"


@pytest.mark.attack("compressed file that expands without bound")
def test_parquet_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["a" * 20_000_000], "date": ["2024-05-01"]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    refused = read(path).refused
    assert refused is not None
    assert refused.code == "body_too_large"


ENTITIES = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f"{ENTITIES}<rss><channel><item><title>&b;</title></item></channel></rss>", "feed_entities"),
        ('<!DOCTYPE r SYSTEM "x" [ <!ENTITY x SYSTEM "file:///etc/passwd"> ]><rss/>', "feed_entities"),
        ('<?xml version="1.0" encoding="utf-7"?><rss>+ADw-</rss>', "feed_encoding"),
        ('<?xml version="1.0" encoding="utf-16"?><rss/>', "feed_encoding"),
        ("<html><body>Not found</body></html>", "feed_malformed"),
        ("/etc/passwd", "feed_malformed"),
        ("https://localhost/feed", "feed_malformed"),
        ("<rss>" + "<a>" * 5_000, "feed_malformed"),
        ("<rss>" + " " * MAX_FEED_BYTES, "body_too_large"),
    ],
)
def test_hostile_feed_is_refused(body: str, code: str) -> None:
    with pytest.raises(FileRejectedError) as caught:
        list(read_feed("feed", body.encode(), now=NOW))
    assert caught.value.code == code


def test_utf16_feed_hides_no_entities() -> None:
    with pytest.raises(FileRejectedError) as caught:
        list(read_feed("feed", f"{ENTITIES}<rss/>".encode("utf-16"), now=NOW))
    assert caught.value.code == "feed_encoding"


def test_undeclared_entities_of_a_feed_are_harmless() -> None:
    entry = "<item><title>Acme &b; rises</title><pubDate>Wed, 01 May 2024 10:00:00 GMT</pubDate></item>"
    (one,) = read_feed("feed", f"<rss version='2.0'><channel>{entry}</channel></rss>".encode(), now=NOW)
    assert "Acme" in json.dumps(getattr(one, "title", ""))


def test_many_small_documents_are_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for number in range(5_000):
            file.write(
                json.dumps({"id": f"d{number}", "text": f"Acme {number} rises", "date": 1714521600}) + "\n"
            )
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_documents(path, now=NOW)) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 200 * 5_000 + 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.attack("backtracking regular expression")
@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0"?>\n' + b"\n" * 100_000 + b"<rss version='2.0'><channel>%s</channel></rss>",
        b'<?xml version="1.0"?><rss version="2.0"><channel>%s<copyright>'
        + b'encoding="' * 10_000
        + b"</copyright></channel></rss>",
        b"<rss version='2.0'><channel>%s<item><author>"
        + b"a." * 60_000
        + b"</author></item></channel></rss>",
    ],
    ids=["white space before the root", "encodings in the first line", "long author"],
)
def test_a_feed_takes_time_as_it_grows(body: bytes) -> None:
    entry = b"<item><title>Bread rises</title><pubDate>Mon, 02 Mar 2026 09:00:00 GMT</pubDate></item>"
    begun = time.process_time()
    records = list(feed_records("feed", body.replace(b"%s", entry)))
    assert not isinstance(records[0], Rejected)
    assert time.process_time() - begun < 10


@pytest.mark.attack("backtracking regular expression")
def test_a_feed_of_many_namespaces_or_attributes_is_refused() -> None:
    names = b" ".join(b'xmlns:a%d="http://x/%d"' % (number, number) for number in range(600))
    attributes = b" ".join(b'a%d="x"' % number for number in range(600))
    for tag in (names, attributes):
        with pytest.raises(FileRejectedError) as caught:
            list(feed_records("feed", b"<rss version='2.0'><channel " + tag + b"><item/></channel></rss>"))
        assert caught.value.code == "feed_malformed"


@pytest.mark.attack("poisonous document among good ones")
def test_a_long_frame_is_not_parsed_for_each_of_many_entries() -> None:
    frame = b"<rss version='2.0'><channel>" + b"<image><url>x</url></image>" * 8_000
    entries = b"<item>" + b"<b>" * 300 + b"</item>" + b"<item></item>" * 1_000
    with pytest.raises(FileRejectedError) as caught:
        list(feed_records("feed", frame + entries + b"</channel></rss>"))
    assert caught.value.code == "feed_malformed"
