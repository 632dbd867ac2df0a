"""Lines in, payloads and refusals out: formats, ids, columns."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from jobs.errors import InputError, PromptTooLongError
from jobs.intake.payloads import LinesById, Rejected, read_lines
from jobs.kind import Context, Kind, Result
from jobs.rejection import Refusal
from kinds.article.brief import ArticleBrief
from kinds.article.kind import ArticleKind
from tests.unit.jobs.intake.lines import HEADER, csv_text, jsonl, read, write

EXAMPLES = Path(__file__).parents[4] / "examples" / "articles" / "briefs.csv"


def test_csv_row_becomes_a_payload_with_every_column(tmp_path: Path) -> None:
    row = 'a-1,Bread,baking,flour; long rise ;,beginners,warm,pt-br,120,"start; end","Flour, water."'
    outcome = read(write(tmp_path, "briefs.csv", csv_text(HEADER, row)))
    (line,) = outcome.accepted
    assert (line.custom_id, line.line, line.flags) == ("a-1", 2, ())
    assert line.payload == ArticleBrief(
        title="Bread",
        topic="baking",
        keywords=("flour", "long rise"),
        audience="beginners",
        tone="warm",
        language="pt-BR",
        length=120,
        outline="start; end",
        facts="Flour, water.",
    )


def test_jsonl_line_becomes_the_same_payload_as_its_csv_row(tmp_path: Path) -> None:
    line = {"id": 7, "title": "Bread", "keywords": ["flour", "rise"], "length": 50, "tone": None}
    from_json = read(write(tmp_path, "a.jsonl", jsonl(line))).accepted[0]
    from_csv = read(
        write(tmp_path, "a.csv", csv_text("id,title,keywords,length,tone", "7,Bread,flour;rise,50,"))
    )
    assert from_json.custom_id == from_csv.accepted[0].custom_id == "7"
    assert from_json.payload == from_csv.accepted[0].payload


@pytest.mark.parametrize("name", ["briefs.csv.gz", "briefs.csv", "briefs"])
def test_gzip_is_recognised_by_its_magic_bytes_whatever_the_name(tmp_path: Path, name: str) -> None:
    packed = gzip.compress(csv_text("id,title", "a,Bread").encode())
    assert read(write(tmp_path, name, packed)).ids == ["a"]


def test_format_without_a_suffix_is_told_by_the_first_character(tmp_path: Path) -> None:
    assert read(write(tmp_path, "one", "\n" + jsonl({"title": "a"}))).ids == ["line-2"]
    assert read(write(tmp_path, "two", csv_text("title", "a"))).ids == ["line-2"]


def test_absent_id_is_the_line_number_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.csv", csv_text("id,title", "", ",a", ",", "  ", "x,b", end="\r\n")))
    assert outcome.ids == ["line-3", "x"]
    assert outcome.rejected == []
    assert read(write(tmp_path, "a.jsonl", '\r\n{"title": "a"}\r\n \n{"title": "b"}')).ids == [
        "line-2",
        "line-4",
    ]


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", b"\xef\xbb\xbf" + csv_text("id,title", "a,b").encode())).ids == ["a"]
    assert read(write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"title": "b"}\n')).ids == ["line-1"]


def test_quoted_line_ends_do_not_shift_line_numbers(tmp_path: Path) -> None:
    rows = ('a,"one\ntwo\n\nthree"', "b,plain", 'c,"four\r\nfive",extra', "d,last")
    outcome = read(write(tmp_path, "a.csv", csv_text("id,title", *rows)))
    assert [(line.custom_id, line.line) for line in outcome.accepted] == [("a", 2), ("b", 6), ("d", 9)]
    assert outcome.codes == [(7, "csv_extra_cell")]
    assert outcome.accepted[0].payload.title == "one two three"


def test_duplicate_id_is_refused_naming_both_lines(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.csv", csv_text("id,title", "x,a", "y,b", "x,c")))
    assert outcome.ids == ["x", "y"]
    (rejected,) = outcome.rejected
    assert (rejected.line, rejected.code, rejected.column) == (4, "duplicate_id", "id")
    assert "line 2" in rejected.reason
    assert "line 4" in rejected.reason


@given(st.lists(st.text("ab\u00e9", max_size=3), min_size=1, max_size=60))
def test_each_duplicate_names_the_first_line_of_its_id(ids: list[str]) -> None:
    items = [{"id": each or "empty", "title": "a"} for each in ids]
    lines: dict[str, int] = {}
    for line, item in zip(read_lines(items, ArticleKind()), items, strict=False):
        first = lines.setdefault(item["id"], line.line)
        if isinstance(line, Rejected):
            assert f"is used in line {first} and again in line {line.line}" in line.reason
        else:
            assert (first, line.custom_id) == (line.line, item["id"])


def test_ids_of_many_lines_are_told_apart() -> None:
    lines_by_id = LinesById()
    numbers = range(1, 300_001)
    assert all(lines_by_id.setdefault(f"id-{number}", number) == number for number in numbers)
    assert all(lines_by_id.setdefault(f"id-{number}", 7) == number for number in numbers)


def test_given_id_that_equals_a_derived_one_is_a_duplicate(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.csv", csv_text("id,title", "line-3,a", ",b")))
    assert outcome.codes == [(3, "duplicate_id")]


def test_unknown_csv_column_refuses_the_file_and_names_the_nearest(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.csv", csv_text("id,titel,lenght", "a,b,3")))
    assert outcome.accepted == []
    assert outcome.refused is not None
    assert outcome.refused.code == "unknown_column"
    assert "'titel'" in str(outcome.refused)
    assert "did you mean 'title'?" in str(outcome.refused)
    assert outcome.refused.rejected.line == 1


def test_unknown_json_key_refuses_its_line_alone(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.jsonl", jsonl({"title": "a", "lenght": 30}, {"title": "b"})))
    assert outcome.ids == ["line-2"]
    (rejected,) = outcome.rejected
    assert (rejected.code, rejected.column) == ("unknown_column", "lenght")
    assert "'length'" in rejected.advice


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("id,tone", "missing_column"),
        ("id,title,title", "duplicate_column"),
        ("id,,title", "unknown_column"),
        ("id,Title,title", "duplicate_column"),
    ],
)
def test_unusable_header_refuses_the_file(tmp_path: Path, header: str, code: str) -> None:
    outcome = read(write(tmp_path, "a.csv", csv_text(header, "a,b")))
    assert outcome.refused is not None
    assert outcome.refused.code == code


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.csv", "", "file_empty"),
        ("a.jsonl", "\n\n", "file_empty"),
        ("a.csv", "id,title\n", "file_header_only"),
        ("a.csv", "id,title\n\n,,\n".replace(",,", ","), "file_header_only"),
    ],
)
def test_file_without_a_line_is_refused(tmp_path: Path, name: str, content: str, code: str) -> None:
    outcome = read(write(tmp_path, name, content))
    assert outcome.refused is not None
    assert outcome.refused.code == code


def test_absent_file_is_refused_by_name(tmp_path: Path) -> None:
    outcome = read(tmp_path / "nothing.csv")
    assert outcome.refused is not None
    assert outcome.refused.code == "file_unreadable"
    assert "nothing.csv" in str(outcome.refused)


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ("a,,,en", "missing_column", None),
        ('a,b,"1 2",', "field_invalid", "length"),
        ("a,b,19,", "field_invalid", "length"),
        ("a,b,1501,", "field_invalid", "length"),
        ("a,b,many,", "field_invalid", "length"),
        ("a,b,50,english", "field_invalid", "language"),
        ("a,b,50,e", "field_invalid", "language"),
        ("a,b,50", "csv_missing_cell", None),
        ("a,b,50,en,x", "csv_extra_cell", None),
        ('a,b"x,50,en', None, None),
        ('a,"b"x,50,en', "csv_malformed", None),
    ],
)
def test_bad_field_is_refused_with_its_column(
    tmp_path: Path, row: str, code: str | None, column: str | None
) -> None:
    outcome = read(write(tmp_path, "a.csv", csv_text("id,title,length,language", row, "ok,b,50,en")))
    assert outcome.ids[-1] == "ok"
    assert outcome.codes == ([] if code is None else [(2, code)])
    if code is not None:
        assert outcome.rejected[0].column == column
        assert outcome.rejected[0].advice


def test_advice_for_a_wrong_language_names_the_tag(tmp_path: Path) -> None:
    outcome = read(write(tmp_path, "a.jsonl", jsonl({"title": "a", "language": "German"})))
    assert "'de'" in outcome.rejected[0].reason


def test_unclosed_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    rows = ("a,good", 'b,"never closed', "c,good", "d,good")
    outcome = read(write(tmp_path, "a.csv", csv_text("id,title", *rows)))
    assert outcome.ids == ["a", "c", "d"]
    assert outcome.codes == [(3, "csv_malformed")]
    assert "never closed" in outcome.rejected[0].reason


def test_check_of_the_caller_refuses_a_line_under_its_own_code(tmp_path: Path) -> None:
    def check(briefs: Sequence[ArticleBrief]) -> list[InputError | Refusal | None]:
        return [PromptTooLongError(3000, 100, 2048) if brief.title == "long" else None for brief in briefs]

    path = write(tmp_path, "a.csv", csv_text("title", "short", "long"))
    good, bad = read_lines(path, ArticleKind(), check=check)
    assert not isinstance(good, Rejected)
    assert isinstance(bad, Rejected)
    assert (bad.line, bad.code) == (3, "prompt_too_long")
    assert "3000" in bad.reason


def test_lines_that_are_checked_together_keep_their_order_and_free_the_ids_of_the_refused(
    tmp_path: Path,
) -> None:
    sizes: list[int] = []

    def check(briefs: Sequence[ArticleBrief]) -> list[InputError | Refusal | None]:
        sizes.append(len(briefs))
        by_title: dict[str, InputError | Refusal] = {
            "long": PromptTooLongError(3000, 100, 2048),
            "odd": Refusal("row_unreadable", "is odd"),
        }
        return [by_title.get(brief.title or "") for brief in briefs]

    titles = ["long", "odd", "a", "", "b"] * 200
    path = write(tmp_path, "a.csv", csv_text("id,title", *(f"{n % 500},{t}" for n, t in enumerate(titles))))
    lines = list(read_lines(path, ArticleKind(), check=check))
    assert [line.line for line in lines] == list(range(2, 1_002))
    codes = Counter(line.code for line in lines if isinstance(line, Rejected))
    assert codes == {
        "prompt_too_long": 200,
        "row_unreadable": 200,
        "missing_column": 200,
        "duplicate_id": 200,
    }
    assert sum(sizes) == 800
    assert max(sizes) <= 256


def test_large_lines_are_checked_a_few_at_a_time(tmp_path: Path) -> None:
    sizes: list[int] = []

    def check(briefs: Sequence[ArticleBrief]) -> list[None]:
        sizes.append(len(briefs))
        return [None] * len(briefs)

    unknown: dict[str, object] = {"title": "a", "extra": "x" * 400_000}
    path = write(tmp_path, "a.jsonl", jsonl(*[unknown] * 9))
    assert len(list(read_lines(path, ArticleKind(), check=check))) == 9
    items = [{"title": "a", "facts": "f" * 7_900, "outline": "o" * 7_900} for _ in range(200)]
    assert len(list(read_lines(items, ArticleKind(), check=check))) == 200
    assert sum(sizes) == 200
    assert max(sizes) < 100


def test_lines_before_a_fault_of_the_file_are_reported_first(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, object]]:
        yield {"title": "a"}
        yield {"title": "b", "length": 3}
        raise OSError("the disk is gone")

    lines = read_lines(rows(), ArticleKind(), check=lambda briefs: [None] * len(briefs))
    assert [isinstance(next(lines), Rejected) for _ in range(2)] == [False, True]
    with pytest.raises(OSError, match="gone"):
        next(lines)


def test_rejected_line_is_one_json_object(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", jsonl({"title": "a", "length": 3}))
    (rejected,) = read(path).rejected
    assert json.loads(json.dumps(rejected.as_json())) == {
        "file": str(path),
        "line": 1,
        "column": "length",
        "code": "field_invalid",
        "reason": rejected.reason,
        "advice": "write length as words, 20 to 1500",
    }
    assert str(rejected).startswith(f"{path}:1: column 'length': ")


def test_example_briefs_are_accepted_and_varied() -> None:
    outcome = read(EXAMPLES)
    assert outcome.rejected == []
    assert len(outcome.accepted) >= 24
    briefs = [line.payload for line in outcome.accepted]
    assert len({brief.tone for brief in briefs}) >= 12
    assert len({brief.length for brief in briefs}) >= 8
    assert len({brief.audience for brief in briefs}) >= 10


class Place(BaseModel):
    city: str


class TripPayload(BaseModel):
    place: Place
    days: list[int] = []


class TripKind(Kind[TripPayload]):
    name = "trip"
    payload_type = TripPayload

    def run(self, payload: TripPayload, context: Context) -> Result:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ({"place": {"city": 1}}, "city: must be a string"),
        ({"place": {"city": "a"}, "days": [1, "b"]}, "1: must be an integer"),
    ],
)
def test_fault_inside_of_a_column_is_named_with_its_place(
    tmp_path: Path, line: dict[str, object], place: str
) -> None:
    (rejected,) = read_lines(write(tmp_path, "a.jsonl", jsonl(line)), TripKind())
    assert isinstance(rejected, Rejected)
    assert rejected.column in line
    assert rejected.reason.startswith(place)
