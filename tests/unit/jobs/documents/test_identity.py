"""An id that items of one reading share names none of them: all are kept, and the sharing is told."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.documents.document import Document
from jobs.documents.reading import read_documents, read_feed
from tests.unit.jobs.documents.files import jsonl, write

NOW = datetime(2026, 4, 1, tzinfo=UTC)
WIRE = Path(__file__).parents[3] / "data" / "feeds" / "one-link-for-all.xml"

SHARED = {
    "guid": "<guid isPermaLink='false'>g</guid><link>https://example.com/{0}</link>",
    "link": "<link>https://example.com/news</link>",
    "guid and link": "<guid>https://example.com/news</guid><link>https://example.com/news</link>",
    "empty guid": "<guid></guid><link>https://example.com/news</link>",
    "guid of spaces": "<guid>  </guid><link>https://example.com/news</link>",
    "guid null": "<guid isPermaLink='false'>null</guid><link>https://example.com/news</link>",
    "nothing at all": "",
}


def item(number: int, names: str, title: str = "Acme story {0}") -> str:
    return (
        f"<item><title>{title.format(number)}</title>{names.format(number)}"
        f"<description>What Acme said, part {number}</description>"
        f"<pubDate>{number + 1} Mar 2026 08:00 GMT</pubDate></item>"
    )


def read(items: Sequence[str]) -> tuple[list[Document], list[str]]:
    notes: list[str] = []
    body = f"<rss version='2.0'><channel><title>Wire</title>{''.join(items)}</channel></rss>"
    made = list(read_feed("wire", body.encode(), now=NOW, on_note=notes.append))
    return [one for one in made if isinstance(one, Document)], notes


def by_title(documents: Sequence[Document]) -> dict[str, str]:
    return {one.title: one.id for one in documents}


def test_feed_with_one_link_for_all_items_keeps_them_all_and_tells() -> None:
    notes: list[str] = []
    made = list(read_documents(WIRE, now=NOW, on_note=notes.append))
    assert len({one.id for one in made if isinstance(one, Document)}) == 6
    (note,) = notes
    assert "6 documents" in note
    assert "'https://example.com/news'" in note


@pytest.mark.parametrize("names", SHARED.values(), ids=SHARED.keys())
@pytest.mark.parametrize("title", ["Acme story {0}", "Acme story", ""])
def test_items_that_share_an_id_are_told_apart(names: str, title: str) -> None:
    items = [item(number, names, title) for number in range(4)]
    documents, notes = read(items)
    assert len({one.id for one in documents}) == 4
    assert len(notes) == bool(names)
    again, _ = read([*items[::-1], item(9, names, title)])
    assert {one.id for one in documents} < {one.id for one in again}


def test_item_with_an_id_of_its_own_keeps_it_beside_others_that_share_one() -> None:
    documents, _ = read([item(1, SHARED["link"]), item(2, SHARED["link"]), item(3, "<guid>own</guid>")])
    assert by_title(documents)["Acme story 3"] == "own"


def test_item_that_a_feed_holds_twice_is_one_document_and_shares_nothing() -> None:
    documents, notes = read([item(1, SHARED["link"])] * 3)
    assert ([one.id for one in documents], notes) == (["https://example.com/news"], [])


@pytest.mark.parametrize("column", ["url", "link", "id", "guid"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_rows_that_share_an_id_are_told_apart(tmp_path: Path, column: str, suffix: str) -> None:
    rows = [
        {column: "https://example.com/news", "title": f"Acme story {n}", "published_at": f"2026-03-0{n}"}
        for n in range(1, 7)
    ]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    content = jsonl(*[dict(row) for row in rows]) if suffix == "jsonl" else "\n".join(lines)
    notes: list[str] = []
    path = write(tmp_path, f"a.{suffix}", content)
    made = [one for one in read_documents(path, now=NOW, on_note=notes.append) if isinstance(one, Document)]
    assert len({one.id for one in made}) == 6
    assert len(notes) == 1


@pytest.mark.parametrize(
    "names", [{"id": "0"}, {"url": "/news"}, {"url": "https://example.com", "title": "News"}]
)
def test_more_rows_than_a_document_has_versions_share_their_id(
    tmp_path: Path, names: dict[str, object]
) -> None:
    rows = [{**names, "text": f"Acme story {n}", "published_at": f"2026-03-{n:02}"} for n in range(1, 21)]
    notes: list[str] = []
    made = list(read_documents(write(tmp_path, "a.jsonl", jsonl(*rows)), now=NOW, on_note=notes.append))
    assert len({one.id for one in made if isinstance(one, Document)}) == 20
    assert any("20 documents share their id" in note for note in notes)


def test_versions_of_a_document_are_told(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "title": "Acme", "text": f"Version {n}", "published_at": f"2026-03-0{n}"}
        for n in (1, 3, 2)
    ]
    notes: list[str] = []
    made = list(read_documents(write(tmp_path, "a.jsonl", jsonl(*rows)), now=NOW, on_note=notes.append))
    assert {one.id for one in made if isinstance(one, Document)} == {"a"}
    assert ["2 documents are replaced by later versions" in note for note in notes] == [True]


def test_row_far_behind_does_not_take_the_place_of_the_one_whose_id_it_has(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"url": f"https://example.com/{n % 300}", "title": f"Acme story {n}", "published_at": "2026-03-01"}
        for n in range(600)
    ]
    made = list(read_documents(write(tmp_path, "a.jsonl", jsonl(*rows)), now=NOW))
    assert len({one.id for one in made if isinstance(one, Document)}) == 600


def test_placeholder_is_no_id(tmp_path: Path) -> None:
    rows = [
        {
            "id": name,
            "url": f"https://example.com/{n}",
            "title": "Acme rises",
            "published_at": f"2026-03-0{n + 1}",
        }
        for n, name in enumerate(("null", "N/A", "None", "nan"))
    ]
    made = list(read_documents(write(tmp_path, "a.jsonl", jsonl(*rows)), now=NOW))
    assert [one.id for one in made if isinstance(one, Document)] == [row["url"] for row in rows]


def test_later_version_with_the_same_title_still_corrects(tmp_path: Path) -> None:
    first: dict[str, object] = {
        "id": "https://example.com/1", "title": "Acme rises", "text": "By 1%", "published_at": "2026-03-01",
    }  # fmt: skip
    notes: list[str] = []
    path = write(tmp_path, "a.jsonl", jsonl(first, {**first, "text": "By 2%", "published_at": "2026-03-02"}))
    made = [one for one in read_documents(path, now=NOW, on_note=notes.append) if isinstance(one, Document)]
    assert [(one.id, one.text) for one in made] == [(first["id"], "By 1%"), (first["id"], "By 2%")]
    assert notes == []


ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", ""]), st.integers(1, 3)), max_size=8
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.data())
def test_no_content_is_lost_in_whatever_order_items_come(
    rows: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    items = [
        f"<item><guid>{guid}</guid><title>{title}</title><description>Acme {day}</description>"
        f"<pubDate>{day} Mar 2026 08:00 GMT</pubDate></item>"
        for guid, title, day in rows
    ]
    documents, _ = read(items)
    assert len({one.id for one in documents}) == len(documents)
    assert len(documents) == len({json.dumps(row) for row in rows})
    again, _ = read(data.draw(st.permutations(items)))
    assert {one.id: one.text for one in again} == {one.id: one.text for one in documents}
