"""For any good lines: as many out as in, in order, unchanged, however the file is written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jobs.guards import find_control_token, find_secret
from jobs.intake.values import MAX_INTEGER, JsonRefusedError, parse
from tests.unit.jobs.intake.lines import read

# Any text that Unicode and the guards allow; ASCII with CSV's own characters is drawn often.
TEXT = st.one_of(
    st.text(st.sampled_from('ab ,;"\n\r\t|é'), max_size=30),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
).filter(lambda text: find_control_token(text) is None and find_secret(text) is None)
FACTS = TEXT.map(lambda text: f"x{text}x")
LINES = st.lists(FACTS, min_size=1, max_size=12)


def facts_of(name: str, content: bytes) -> list[str | None]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        outcome = read(path)
    assert outcome.refused is None
    assert outcome.rejected == []
    assert outcome.ids == [f"n{number}" for number in range(len(outcome.accepted))]
    return [line.payload.facts for line in outcome.accepted]


@given(
    lines=LINES,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    is_packed=st.booleans(),
)
def test_every_good_csv_row_is_accepted_whatever_the_quoting(
    lines: list[str], quoting: int, line_end: str, is_packed: bool
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    writer.writerow(["id", "facts", "title"])
    if quoting == csv.QUOTE_MINIMAL:
        lines = [
            facts.replace("\r", "") for facts in lines
        ]  # Python's writer leaves it bare, against RFC 4180
    for number, facts in enumerate(lines):
        writer.writerow([f"n{number}", facts, "t"])
    content = file.getvalue().encode()
    expected = [facts.replace("\r\n", "\n") for facts in lines]
    assert facts_of("a.csv", gzip.compress(content) if is_packed else content) == expected


@given(lines=LINES, ensure_ascii=st.booleans(), line_end=st.sampled_from(["\n", "\r\n", "\n\n \n"]))
def test_every_good_json_line_is_accepted_whatever_the_escapes(
    lines: list[str], ensure_ascii: bool, line_end: str
) -> None:
    rows = [{"id": f"n{number}", "title": "t", "facts": facts} for number, facts in enumerate(lines)]
    text = line_end.join(json.dumps(row, ensure_ascii=ensure_ascii) for row in rows)
    assert facts_of("a.jsonl", text.encode()) == lines


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(JSON)
def test_strict_parser_reads_what_json_writes(value: object) -> None:
    assert parse(json.dumps(value)) == value


@given(st.text(st.sampled_from('{}[]",:0123456789.eE+-NaInfity \\truels'), max_size=60))
def test_strict_parser_refuses_with_a_position_or_agrees_with_the_standard_one(text: str) -> None:
    position = None
    try:
        value = parse(text)
    except JsonRefusedError as error:
        position = error.character
    if position is None:
        assert value == json.loads(text)
    else:
        assert 1 <= position <= len(text) + 1
