"""The files of a release: one row a user, loadable by others, whole or not there, safe whatever ids are."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from kinds.recommendation.export.census import Census
from kinds.recommendation.export.files import (
    JsonlSink,
    ParquetSink,
    export_release,
    figures_of,
    partition,
    pass_over,
    write_texts,
)
from kinds.recommendation.export.rows import rows
from kinds.recommendation.texts.text import TextPolicy, TextScope
from tests.unit.kinds.recommendation.export.samples import Shelf, item, make_release, text, user_list

ITEMS = [item(name) for name in "abcdef"]

HOSTILE = [
    "../../etc/passwd",
    "=HYPERLINK(1)",
    "a/b\\c",
    "<script>",
    "line\nbreak\u2028here",
    "..",
    "é" * 200,
    "Tents & Tarps",
    "__hive_default_partition__",
    "x" * 40 + "-0123456789abcdef",
]


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_jsonl_parquet_and_rows_say_the_same(tmp_path: Path) -> None:
    shelf = Shelf()
    index = {"segment:tents": shelf.entry("k", ["a"], text("Tents"))}
    lists = [
        user_list(f"u{n}", *"abcd"[n % 2 :], segment="tents" if n % 3 else "Boots & Co") for n in range(40)
    ]
    release = make_release(shelf, lists, ITEMS, num_blocks=4, index=index)
    pass_over(release, [JsonlSink(tmp_path / "r.jsonl"), ParquetSink(tmp_path / "r")])
    expected = [row.as_json() for row in rows(release)]
    assert _lines(tmp_path / "r.jsonl") == expected
    loaded = ds.dataset(tmp_path / "r", partitioning="hive").to_table().to_pylist()
    for row in loaded:
        for place in row["items"]:
            assert place.pop("text") is None
    assert sorted(loaded, key=lambda row: row["user"]) == sorted(
        ({name: row[name] for name in loaded[0]} for row in expected), key=lambda row: str(row["user"])
    )


def test_texts_of_items_are_in_both_files(tmp_path: Path) -> None:
    shelf = Shelf()
    index = {"item:a": shelf.entry("k", ["a"], text("About A"))}
    policy = TextPolicy(scope=TextScope.ITEM)
    release = make_release(shelf, [user_list("ann", "a")], ITEMS, index=index, policy=policy)
    pass_over(release, [JsonlSink(tmp_path / "r.jsonl"), ParquetSink(tmp_path / "r")])
    (row,) = ds.dataset(tmp_path / "r", partitioning="hive").to_table().to_pylist()
    expected = {
        "headline": "About A",
        "blurb": "About A, in full.",
        "reason": "Picked for you.",
        "text_origin": "model",
    }
    assert row["items"][0]["text"] == expected
    assert _lines(tmp_path / "r.jsonl")[0]["items"][0]["text"] == expected  # type: ignore[index]


@pytest.mark.parametrize("segment", HOSTILE)
def test_folder_of_a_segment_is_one_folder_below_and_comes_back(segment: str, tmp_path: Path) -> None:
    release = make_release(Shelf(), [user_list("ann", "a", segment=segment)], ITEMS)
    pass_over(release, [ParquetSink(tmp_path / "r")])
    (folder,) = (tmp_path / "r").iterdir()
    assert [path.name for path in folder.iterdir()] == ["part-00000.parquet"]
    assert len(folder.name.encode()) < 255
    (row,) = ds.dataset(tmp_path / "r", partitioning="hive").to_table().to_pylist()
    if len(segment) < 100:
        assert row["segment"] == segment


def test_long_segments_that_begin_alike_stay_apart() -> None:
    assert partition("é" * 200) != partition("é" * 201)
    assert "%" not in partition("é" * 200)[-19:-17]


def test_segments_that_differ_by_case_accent_or_digest_alone_get_folders_that_differ_everywhere() -> None:
    long = "x" * 200
    segments = [
        "abc",
        "ABC",
        "aBc",
        "é",
        "É",
        "e\u0301",
        "\u212a",
        "k",
        "K",
        "ß",
        "ss",
        "con",
        "CON",
        "a.",
        "a",
        "a ",
    ]
    segments += [
        "",
        "__hive_default_partition__",
        "__HIVE_DEFAULT_PARTITION__",
        "%41",
        "A",
        "%2e",
        ".",
        "ﬁ",
        "fi",
    ]
    segments += [long, partition(long).removeprefix("segment=")]
    folders = [unicodedata.normalize("NFKC", partition(each)).casefold().rstrip(". ") for each in segments]
    assert len(set(folders)) == len(segments)


def test_many_segments_are_written_within_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinds.recommendation.export.files.MAX_BUFFERED_ROWS", 10)
    lists = [user_list(f"u{n}", "a", segment=f"s{n % 7}") for n in range(300)]
    sink = ParquetSink(tmp_path / "r")
    most = 0
    release = make_release(Shelf(), lists, ITEMS, num_blocks=64)
    with sink:
        for row in rows(release):
            sink.write([row])
            most = max(most, sum(map(len, sink._waiting.values())))
    assert most <= 10
    table = ds.dataset(tmp_path / "r", partitioning="hive").to_table()
    assert table.num_rows == len(set(table.column("user").to_pylist())) == 300


def test_export_that_fails_leaves_the_earlier_files(tmp_path: Path) -> None:
    good = make_release(Shelf(), [user_list("ann", "a")], ITEMS)
    export_release(good, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    shelf = Shelf()
    broken = make_release(shelf, [user_list(f"u{n}", "b") for n in range(9)], ITEMS, num_blocks=4)
    del shelf.resources[broken.manifest.blocks[2].lists_sha256]
    with pytest.raises(KeyError):
        export_release(broken, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_export_replaces_links_and_what_they_point_to_stays(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text("not from an export")
    out.mkdir()
    names = ("recommendations.jsonl", "texts.jsonl", "index.html", "recommendations")
    for name in names:
        (out / name).symlink_to(victim)
    export_release(make_release(Shelf(), [user_list("ann", "a")], ITEMS), out)
    assert victim.read_text() == "not from an export"
    assert not [name for name in names if (out / name).is_symlink()]


def test_export_replaces_an_earlier_one_whole(tmp_path: Path) -> None:
    export_release(make_release(Shelf(), [user_list("ann", "a", segment="old")], ITEMS), tmp_path)
    export_release(make_release(Shelf(), [user_list("bob", "a", segment="new")], ITEMS), tmp_path)
    assert [path.name for path in (tmp_path / "recommendations").iterdir()] == ["segment=new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.html",
        "recommendations",
        "recommendations.jsonl",
        "texts.jsonl",
    ]


def test_each_line_is_one_object_whatever_ids_and_titles_hold(tmp_path: Path) -> None:
    nasty = "x\u2028y\u2029z\n\r\u0085<script>"
    release = make_release(Shelf(), [user_list(nasty * 500, "a")], [item("a", title=nasty)])
    pass_over(release, [JsonlSink(tmp_path / "r.jsonl")])
    body = (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    assert body.count("\n") == 1
    assert "\u2028" not in body
    assert json.loads(body)["user"] == nasty * 500


@pytest.mark.parametrize("scope", [TextScope.USER, TextScope.SEGMENT])
def test_texts_file_has_every_audience_with_what_readers_get(scope: TextScope, tmp_path: Path) -> None:
    shelf = Shelf()
    names = ["ann", "bob"] if scope is TextScope.USER else ["boots", "tents"]
    index = {
        f"{scope.value}:{names[0]}": shelf.entry("k", ["a"], text("Written")),
        f"{scope.value}:{names[1]}": shelf.entry("l", ["b"], None),
    }
    lists = [user_list("ann", "a", segment="boots"), user_list("bob", "b", segment="tents")]
    policy = TextPolicy(scope=scope)
    release = make_release(shelf, lists, ITEMS, num_blocks=2, index=index, policy=policy)
    write_texts(release, tmp_path / "texts.jsonl")
    lines = _lines(tmp_path / "texts.jsonl")
    assert {line["audience"]: line["text_origin"] for line in lines} == {
        f"{scope.value}:{names[0]}": "model",
        f"{scope.value}:{names[1]}": "template",
    }


def test_figures_count_what_is_shown(tmp_path: Path) -> None:
    shelf = Shelf()
    index = {
        "segment:tents": shelf.entry("k", ["a"], text("Written")),
        "segment:boots": shelf.entry("l", ["b"], None),
    }
    lists = [
        user_list("ann", "a", "b"),
        user_list("bob", "b", segment="boots"),
        user_list("cy", "f", segment="boots"),
    ]
    release = make_release(shelf, lists, ITEMS, index=index, withdrawn=frozenset("f"))
    census = Census(TextScope.SEGMENT)
    pass_over(release, [census])
    figures = figures_of(release, census)
    assert (figures.num_users, figures.num_users_without_items, figures.num_withdrawn) == (3, 1, 1)
    assert (figures.num_items_shown, figures.coverage, figures.num_places) == (2, 2 / 6, 3)
    assert figures.model_share == 0.5
    assert census.picked("tents") == ["ann"]
    assert census.picked("boots") == ["bob"]
