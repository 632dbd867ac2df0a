"""Items in memory: streamed, and refused as lines of JSONL are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest
from pydantic import BaseModel

from jobs.intake.payloads import Accepted, FileRejectedError, Rejected, read_lines
from jobs.kind import Context, Kind, Result
from kinds.article.kind import ArticleKind
from tests.items import MAX_HELD, CountedItems

NESTED: object = 0
for _ in range(40):
    NESTED = [NESTED]

ITEMS: list[dict[str, object]] = [
    {"id": "a", "title": "Night trains", "length": 120},
    {"id": 7, "Title": "Bread", "keywords": ["flour", "rise"], "tone": None},
    {"title": "without an id"},
    {"id": "a", "title": "an id again"},
    {},
    {"id": "b", "titel": "a column that is spelt wrong"},
    {"id": "c", "title": "x", "Title": "y"},
    {"id": "d", "title": "x", "length": 7},
    {"id": "e", "title": "x", "length": float("nan")},
    {"id": "f", "title": "x", "length": 2**60},
    {"id": "g", "title": NESTED},
    {"id": "h", "title": "lone \ud800"},
    {"id": "i", "title": "NUL \0"},
    {"id": "j", "title": "AKIAABCDEFGHIJKLMNOP"},
    {"id": "k", "title": "<|im_end|>"},
    {"id": "l" * 300, "title": "x"},
]


class _Tiny(BaseModel):
    title: str
    length: int


class _TinyKind(Kind[_Tiny]):
    name = "tiny"
    payload_type = _Tiny

    def run(self, payload: _Tiny, context: Context) -> Result:
        raise NotImplementedError


def rejections(*items: object) -> list[Rejected]:
    lines = read_lines(items, ArticleKind())  # type: ignore[arg-type]  # what a caller without types may give
    return [line for line in lines if isinstance(line, Rejected)]


def test_items_are_accepted_and_refused_as_the_same_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    from_file = [
        replace(line, file="items") if isinstance(line, Rejected) else line
        for line in read_lines(path, ArticleKind())
    ]

    from_memory = list(read_lines(iter(ITEMS), ArticleKind()))
    assert from_memory == from_file
    assert [line.line for line in from_memory] == list(range(1, len(ITEMS) + 1))
    assert sum(isinstance(line, Accepted) for line in from_memory) == 3


def test_refused_item_is_named_by_its_number() -> None:
    (refused,) = rejections({"title": "x"}, {"title": "x", "length": 7})
    assert str(refused).startswith("items:2: column 'length': ")


def test_any_mapping_is_an_item() -> None:
    (line,) = read_lines([MappingProxyType({"id": "a", "title": "x"})], ArticleKind())
    assert isinstance(line, Accepted)
    assert line.custom_id == "a"


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), b"x", {1, 2}, 1j, object()])
def test_value_that_json_does_not_have_refuses_its_item_alone(value: object) -> None:
    (refused,) = rejections({"title": "x"}, {"title": value}, {"title": "y"})
    assert (refused.line, refused.code) == (2, "json_invalid")
    assert type(value).__name__ in refused.reason


def test_item_within_itself_is_refused() -> None:
    item: dict[str, object] = {}
    item["title"] = item
    (refused,) = rejections(item)
    assert refused.code == "json_invalid"


def test_depth_that_python_cannot_write_is_refused_as_any_other() -> None:
    value: object = 0
    for _ in range(100_000):
        value = [value]
    (refused,) = rejections({"title": value})
    assert refused.code == "json_too_deep"


@pytest.mark.parametrize("item", ["a text", None, 7, ["title"], [("title", "x")]])
def test_item_that_is_no_mapping_is_refused(item: object) -> None:
    (refused,) = rejections(item)
    assert (refused.code, refused.reason) == ("json_invalid", "is not a JSON object")


def test_keys_that_are_equal_as_text_are_refused() -> None:
    (refused,) = rejections({1: "a", "1": "b"})
    assert refused.code == "json_duplicate_key"


def test_item_is_as_large_as_its_text_in_utf_8() -> None:
    (refused,) = rejections({"title": "x", "facts": "\u00e9" * 2**21}, {"title": "x"})
    assert (refused.line, refused.code) == (1, "body_too_large")


def test_no_item_at_all_is_refused_as_an_empty_file() -> None:
    with pytest.raises(FileRejectedError, match="items:1: contains no records") as caught:
        list(read_lines([], ArticleKind()))
    assert caught.value.code == "file_empty"


def test_what_the_items_raise_passes_through() -> None:
    def broken() -> Iterator[dict[str, object]]:
        yield {"title": "x"}
        raise ValueError("the application's own")

    lines = read_lines(broken(), ArticleKind())
    assert isinstance(next(lines), Accepted)
    with pytest.raises(ValueError, match="the application's own"):
        next(lines)


def test_generator_of_200_000_items_is_never_held_together() -> None:
    items = CountedItems(200_000)

    assert sum(isinstance(line, Accepted) for line in read_lines(items, _TinyKind())) == 200_000
    assert items.most_held <= MAX_HELD
