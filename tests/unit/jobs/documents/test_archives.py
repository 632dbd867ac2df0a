"""Archives of news: columns of other names, symbols in a column, a row for each symbol of a text."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.documents.document import Document, parse_symbols
from jobs.documents.reading import read_documents
from jobs.intake.columns import assign
from jobs.rejection import Rejected
from kinds.sentiment.documents.linking import Linker
from kinds.sentiment.documents.prepare import prepare
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from tests.unit.jobs.documents.files import write

NOW = datetime(2026, 3, 2, tzinfo=UTC)
ARCHIVE = Path(__file__).parents[3] / "data" / "feeds" / "news-archive.csv"
COMPANY = EntityKind.COMPANY
LINKER = Linker(
    Watchlist(
        name="tech",
        entities=(
            Entity(id="agilent", kind=COMPANY, name="Agilent Technologies Inc.", tickers=("A",)),
            Entity(id="apple", kind=COMPANY, name="Apple Inc.", tickers=("AAPL",)),
            Entity(id="berkshire", kind=COMPANY, name="Berkshire Hathaway", tickers=("BRK.B",)),
        ),
    )
)


def read(path: Path, **columns: str) -> tuple[list[Document], list[Rejected], list[str]]:
    notes: list[str] = []
    made = list(read_documents(path, now=NOW, columns=columns, on_note=notes.append))
    documents = [one for one in made if isinstance(one, Document)]
    return documents, [one for one in made if isinstance(one, Rejected)], notes


def linked(document: Document) -> list[str]:
    return sorted(link.entity_id for link in LINKER.link(prepare(document)))


def test_archive_is_read_with_its_titles_and_its_symbols() -> None:
    documents, refused, _ = read(ARCHIVE)
    assert refused == []
    assert {one.title: linked(one) for one in documents} == {
        "My 6 Largest Portfolio Holdings: Agilent up": ["agilent"],
        "Interesting Options For Agilent and Apple": ["agilent", "apple"],
        "Apple Wins Case": ["apple"],
        "Shares jump on results": ["agilent", "apple"],
    }


def test_columns_that_are_not_read_are_named_once_with_a_guess_for_each() -> None:
    _, _, notes = read(ARCHIVE)
    (note,) = notes
    for name in ("Lsa_summary", "Luhn_summary", "Textrank_summary", "Lexrank_summary"):
        assert f"'{name}' (--column text={name})" in note
    assert "'Author'" in note
    assert "no column" not in note


def test_absent_title_is_told_with_the_column_that_may_be_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "date,text,Main headline of it\n2024-05-01,Acme rises,Acme\n")
    (document,), _, notes = read(path)
    assert document.title == ""
    assert "no column is read as title" in notes[0]
    (document,), _, notes = read(path, title="Main headline of it")
    assert (document.title, notes) == ("Acme", [])


@pytest.mark.parametrize(
    "name",
    ["Article_title", "article title", "ArticleTitle", "ARTICLE-TITLE", "Headline", "News.Title", " title "],
)
def test_name_of_a_column_is_read_whatever_its_case_and_separators(name: str) -> None:
    assert assign([name], {}) == {"title": name}


@pytest.mark.parametrize(
    ("value", "symbols"),
    [
        ("A", ("A",)),
        ("$AAPL", ("AAPL",)),
        ("AAPL;MSFT", ("AAPL", "MSFT")),
        ("AAPL, msft|A", ("AAPL", "MSFT", "A")),
        ("['AAPL', 'MSFT']", ("AAPL", "MSFT")),
        ('["AAPL"]', ("AAPL",)),
        ("NASDAQ:AAPL NYSE: A", ("AAPL", "A")),
        ("BRK.B BRK/B 0700.HK", ("BRK.B", "BRK/B", "0700.HK")),
        (["AAPL", "A"], ("AAPL", "A")),
        ([{"symbol": "AAPL"}, {"ticker": "A"}], ("AAPL", "A")),
        ({"symbol": "AAPL"}, ("AAPL",)),
        ("", ()),
        ("nan", ()),
        (None, ()),
        (1.5, ()),
        ("what is this sentence doing here?", ("WHAT", "IS", "THIS", "SENTENCE", "DOING")),
        ([["AAPL"]] * 3, ("AAPL",)),
    ],
)
def test_symbols_are_read_however_they_are_listed(value: object, symbols: Sequence[str]) -> None:
    assert parse_symbols(value)[:5] == symbols


ROWS = [{"headline": "Shares jump", "date": "2024-05-01", "tickers": ["AAPL", "BRK.B"]}]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_column_of_symbols_links_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        path.write_text("headline,date,tickers\nShares jump,2024-05-01,AAPL;BRK.B\n")
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    (document,), refused, _ = read(path)
    assert refused == []
    assert linked(document) == ["apple", "berkshire"]


def test_symbol_settles_a_name_that_is_a_common_word(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "title,date,symbol\nWhy apple prices matter,2024-05-01,AAPL\n")
    ((link,),) = [LINKER.link(prepare(one)) for one in read(path)[0]]
    assert (link.entity_id, link.is_ambiguous) == ("apple", False)


def test_symbol_that_nobody_watches_links_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "title,date,symbol\nShares jump,2024-05-01,ZZZZ\n")
    assert [linked(one) for one in read(path)[0]] == [[]]


@pytest.mark.parametrize("gap", [0, 200])
@pytest.mark.parametrize("url", ["https://example.com/1", ""])
def test_no_symbol_of_a_text_is_lost_wherever_its_rows_stand(tmp_path: Path, gap: int, url: str) -> None:
    between = [f"Other {n},2024-05-01,https://example.com/other/{n},ZZZZ" for n in range(gap)]
    rows = [f"Shares jump,2024-05-01,{url},A", *between, f"Shares jump,2024-05-01,{url},AAPL"]
    path = write(tmp_path, "a.csv", "\n".join(["title,date,url,symbol", *rows]) + "\n")
    documents = [one for one in read(path)[0] if one.title == "Shares jump"]
    assert len({one.id for one in documents}) == len(documents)
    assert sorted(name for one in documents for name in linked(one)) == ["agilent", "apple"]
