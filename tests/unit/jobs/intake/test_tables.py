"""Tables as other programs write them: each is read as what it is, or refused once and by name."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.intake.dialect import FileOptions, parse_delimiter, sniff_dialect
from jobs.intake.formats import check_encoding
from jobs.intake.payloads import Accepted, read_lines
from jobs.intake.records import file_records
from jobs.rejection import FileRejectedError, Rejected
from kinds.article.brief import ArticleBrief
from kinds.article.kind import ArticleKind

TABLES = Path(__file__).parents[3] / "data" / "tables"
PLAIN = "id,title,topic,length\na1,Night trains,rail,200\na2,Bread,,100\n"


def briefs(path: Path, **options: str) -> list[Accepted[ArticleBrief] | Rejected]:
    return list(read_lines(path, ArticleKind(), options=FileOptions(**options)))  # type: ignore[arg-type]


def rows(path: Path, **options: str) -> list[dict[str, object]]:
    """The records of a file of which none is refused."""
    read = list(file_records(path, lambda names: names, FileOptions(**options)))  # type: ignore[arg-type]
    assert not any(isinstance(row, Rejected) for row in read)
    return [dict(row[1]) for row in read if not isinstance(row, Rejected)]


def written(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> FileRejectedError:
    with pytest.raises(FileRejectedError) as raised:
        briefs(path)
    return raised.value


@pytest.mark.parametrize("name", ["semi", "tab", "sep", "utf16", "cronly", "caps", "trailcells"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_spreadsheets_tables_are_read_alike(tmp_path: Path, name: str, is_packed: bool) -> None:
    path = TABLES / f"{name}.csv"
    if is_packed:
        path = written(tmp_path, gzip.compress(path.read_bytes()), "a.csv.gz")
    read = briefs(path)
    assert [one.payload for one in read if isinstance(one, Accepted)] == [
        ArticleBrief(title="Night trains", topic="rail in Österreich", length=200),
        ArticleBrief(title='Café "Zentral"', topic="coffee; cake", length=100),
        ArticleBrief(title="Two lines", topic="topic, with comma", length=80),
    ]
    first = 3 if name == "sep" else 2
    assert [one.line for one in read] == [first, first + 1, first + 2]


def test_code_page_is_refused_once_with_the_option_that_reads_it() -> None:
    path = TABLES / "cp1252.csv"
    refused = refusal(path)
    assert refused.code == "text_invalid_unicode"
    assert "--encoding cp1252" in str(refused)
    read = briefs(path, encoding="cp1252")
    assert isinstance(read[0], Accepted)
    assert read[0].payload.topic == "rail in Österreich"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ('{"title": "Grüße aus Köln"}\n', "cp1252"),
        ("title\nПривет мир это проверка кодировки\nНовости сегодня\n", "cp1251"),
        ("title\n" + "plain\n" * 30_000 + "“Quoted” – it’s\n", "cp1252"),
        ("title\nこんにちは世界、これはテストです\n", "shift_jis"),
    ],
)
def test_code_page_is_found_wherever_its_first_letter_stands(
    tmp_path: Path, text: str, encoding: str
) -> None:
    path = written(tmp_path, text.encode(encoding), "a.jsonl" if text.startswith("{") else "a.csv")
    refused = refusal(path)
    assert refused.code == "text_invalid_unicode"
    assert "--encoding" in str(refused)
    assert all(isinstance(one, Accepted) for one in briefs(path, encoding=encoding))


def test_damaged_lines_of_a_file_in_utf8_are_refused_alone(tmp_path: Path) -> None:
    path = written(tmp_path, b"title\nK\xc3\xb6ln\nK\xf6ln\nM\xc3\xbcnchen\n")
    assert [isinstance(one, Rejected) for one in briefs(path)] == [False, True, False]


def workbook(member: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, "application/vnd.oasis.opendocument.spreadsheet" if "mime" in member else "")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (workbook("xl/workbook.xml"), "Excel workbook"),
        (workbook("mimetype"), "OpenDocument"),
        (workbook("a.csv"), "zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "old Excel workbook"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00\x00", "xz"),
        (gzip.compress(gzip.compress(b"id\n")), "gzip twice"),
        (b"SQLite format 3\x00", "SQLite"),
        (b"<!DOCTYPE html>\n<html><table>", "HTML"),
        (b"<table><tr><td>id", "HTML"),
        (b'[\n  {"title": "a"},\n  {"title": "b"}\n]\n', "JSON array"),
        (b'[{"title": "a"}]', "JSON array"),
        (b'{\n  "title": "a"\n}\n', "several lines"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a"])
def test_file_of_another_format_is_named_as_that(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    refused = refusal(written(tmp_path, content, name))
    assert refused.code == "format_unknown"
    assert said in refused.rejected.reason
    assert refused.rejected.advice


def test_binary_file_is_no_text(tmp_path: Path) -> None:
    for content in (bytes(range(1, 32)) + bytes(300), bytes(500), b"\x00\x01\x02\x03" * 9 + b"\n"):
        assert "binary" in str(refusal(written(tmp_path, content)))


def test_content_goes_before_the_name(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "title": ["Bread"], "keywords": [["flour", "rise"]]})
    packed = tmp_path / "a.parquet.gz"
    parquet.write_table(table, tmp_path / "a.csv")
    packed.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    json = written(tmp_path, '{"id": "a", "title": "Bread", "keywords": ["flour", "rise"]}\n', "json.csv")
    expected = ArticleBrief(title="Bread", keywords=("flour", "rise"))
    for path in (tmp_path / "a.csv", packed, json):
        (one,) = briefs(path)
        assert isinstance(one, Accepted)
        assert one.payload == expected
    refused = refusal(written(tmp_path, PLAIN, "a.jsonl"))
    assert "a table, although it has the name of a JSON file" in str(refused)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id;title;text\n" + "1;Hello, you, there, and, all;a, b, c, d\n" * 9, ";"),
        ('id,title\n1,"a;b;c;d;e"\n2,"x;y;z"\n', ","),
        ("id|title|price\n1|a, b|3,4\n2|c; d|5,6\n", "|"),
        ("price;name\n1,5;a\n2,5;b\n", ";"),
        ("name\tnote, if any\na\tb\n", "\t"),
        ('"id","title; with; semicolons"\n"1","a"\n', ","),
        ("title\nno delimiter\n", ","),
        ("title\nHello, world\n", ","),
        ("id;title;;\n1;a;;\n", ";"),
        ("id;title\n", ";"),
        ('id;a,b\n1;"x,y"\n2;"z,w"\n', ";"),
    ],
)
def test_the_header_says_which_delimiter_it_is(text: str, delimiter: str) -> None:
    assert sniff_dialect(text).delimiter == delimiter


def test_given_delimiter_goes_before_what_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, "id^title\na^b,c;d\n")
    assert rows(path, delimiter=parse_delimiter("^")) == [{"id": "a", "title": "b,c;d"}]


def test_quotes_behind_backslashes_and_spaces_are_quotes(tmp_path: Path) -> None:
    escaped = written(tmp_path, 'id,title\na,"say \\"hi\\", now"\nb,"x"\n', "escaped.csv")
    assert [row["title"] for row in rows(escaped)] == ['say "hi", now', "x"]
    spaced = written(tmp_path, 'id, title, topic\na, "b, c", d\n', "spaced.csv")
    assert rows(spaced) == [{"id": "a", "title": "b, c", "topic": "d"}]


def test_decimal_commas_are_read_where_a_column_is_a_number(tmp_path: Path) -> None:
    text = "id;price;size;code;note\na;12,99;1.234,50 €;1.5;1,2 and 3\nb;1.299;7;2,5;x\nc;;8,25 €;x;y\n"
    assert [tuple(row.values()) for row in rows(written(tmp_path, text))] == [
        ("a", "12.99", "1234.50 €", "1.5", "1,2 and 3"),
        ("b", "1299", "7", "2,5", "x"),
        ("c", "", "8.25 €", "x", "y"),
    ]
    assert rows(written(tmp_path, text), decimal=".")[0]["price"] == "12,99"
    comma = written(tmp_path, 'id,price\na,"12,99"\n', "comma.csv")
    assert rows(comma)[0]["price"] == "12,99"
    assert rows(comma, decimal=",")[0]["price"] == "12.99"
    points = written(tmp_path, "id;price\na;12.50\nb;1.500\n", "points.csv")
    assert [row["price"] for row in rows(points)] == ["12.50", "1.500"]


def test_ragged_rows_are_refused_alone_with_line_and_column(tmp_path: Path) -> None:
    read = list(
        file_records(written(tmp_path, "id;title;topic\na;b\n\nc;d;e;f\ng;h;i;;\n"), lambda names: names)
    )
    missing, extra, good = read
    assert isinstance(missing, Rejected)
    assert (missing.line, missing.code) == (2, "csv_missing_cell")
    assert "topic" in missing.reason
    assert isinstance(extra, Rejected)
    assert (extra.line, extra.code) == (4, "csv_extra_cell")
    assert good == (5, {"id": "g", "title": "h", "topic": "i"})


def test_what_a_file_was_read_as_is_told_in_one_line(tmp_path: Path) -> None:
    told: list[str] = []
    list(read_lines(TABLES / "utf16.csv", ArticleKind(), options=FileOptions(tell=told.append)))
    list(read_lines(TABLES / "semi.csv", ArticleKind(), options=FileOptions(tell=told.append)))
    assert told == [
        "utf16.csv: CSV, separated by tabs, UTF-16",
        "semi.csv: CSV, separated by semicolons, UTF-8",
    ]


def test_separator_line_is_no_column(tmp_path: Path) -> None:
    for first in ("sep=;\r\n", '"sep=;"\n', "SEP=;;;;\n"):
        assert rows(written(tmp_path, first + "id;title\r\na;b\r\n")) == [{"id": "a", "title": "b"}]
    tabs = written(tmp_path, "sep=\t\nid\ttitle\na\tb\n".encode("utf-16"))
    assert rows(tabs) == [{"id": "a", "title": "b"}]


def test_reason_that_matters_comes_first(tmp_path: Path) -> None:
    refused = refusal(written(tmp_path, "Datum;Umsatz;Ort\n1;2;3\n"))
    assert refused.code == "unknown_column"
    assert "none of its columns is known: it has 'Datum', 'Umsatz', 'Ort'" in str(refused)
    assert "did you mean" not in str(refused)
    assert "did you mean" not in str(refusal(written(tmp_path, "title,qqqqqq\na,b\n")))
    assert "did you mean 'topic'" in str(refusal(written(tmp_path, "title,topik\na,b\n")))


def test_names_of_encodings_are_usual_ones() -> None:
    assert check_encoding("Latin1") == "iso8859-1"
    for name in ("base64", "rot13", "nothing", "utf-8\0"):
        with pytest.raises(ValueError, match="is not an encoding"):
            check_encoding(name)


def test_commas_between_thousands_of_a_table_of_tabs_are_no_decimal_ones(tmp_path: Path) -> None:
    thousands = written(tmp_path, "id\tprice\n22,752\t1,299\n71,053\t12\n", "thousands.tsv")
    assert rows(thousands) == [{"id": "22,752", "price": "1,299"}, {"id": "71,053", "price": "12"}]
    decimals = written(tmp_path, "id\tprice\na\t1,299\nb\t0,5\n", "decimals.tsv")
    assert [row["price"] for row in rows(decimals)] == ["1.299", "0.5"]


def test_points_are_between_thousands_where_another_column_has_decimal_commas(tmp_path: Path) -> None:
    table = written(tmp_path, "id;weight;price\na;2,5;1.299\nb;3;12\n")
    assert [row["price"] for row in rows(table)] == ["1299", "12"]


def test_encoding_that_is_given_for_a_file_in_utf_8_is_doubted(tmp_path: Path) -> None:
    told: list[str] = []
    path = written(tmp_path, "id,title\na,Café\n", "names.csv")
    list(read_lines(path, ArticleKind(), options=FileOptions(encoding="cp1252", tell=told.append)))
    assert told[0] == "names.csv: seems to be UTF-8, but is read as cp1252"
