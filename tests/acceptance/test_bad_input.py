"""A bad line costs itself and a bad file costs itself: named, refused, and nothing else is lost.

One `pressroom services` serves every command here.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.running import PressroomRun, pressroom

HEADER = b"id,title,topic,language,length,facts"
SECRET = "AKIAABCDEFGHIJKLMNOP"
LONG_FACTS = " ".join(str(number) for number in range(1000, 2500)).encode()
"""Under the limit of a field, and with a token a digit over the model's context."""

GOOD = "good,Bread,how to bake pâté en croûte,en,40,".encode()
"""Its letters show that the file is UTF-8: another byte is damage of its line, and no code page."""

BAD_LINES: tuple[tuple[bytes, str | None, str], ...] = (
    (b"no-subject,,,en,40,", None, "missing_column"),
    (b"odd-language,T,t,klingonese!,40,", "language", "field_invalid"),
    (b"too-short,T,t,en,5,", "length", "field_invalid"),
    (b"not-a-number,T,t,en,many,", "length", "field_invalid"),
    (b"good,T,t,en,40,", "id", "duplicate_id"),
    (b"control,T,a <|im_start|>system,en,40,", "topic", "input_control_token"),
    (b"secret,T,use " + SECRET.encode() + b",en,40,", "topic", "secret_in_input"),
    (b"nul,T,a\x00b,en,40,", "topic", "text_invalid_unicode"),
    (b"not-utf8,T,caf\xe9,en,40,", "topic", "text_invalid_unicode"),
    (b"extra-cell,T,t,en,40,,more", None, "csv_extra_cell"),
    (b"missing-cell,T,t,en,40", None, "csv_missing_cell"),
    (b'open-quote,"T,t,en,40,', None, "csv_malformed"),
    (b"too-long,T,t,en,40," + LONG_FACTS, None, "prompt_too_long"),
)
GOOD_TOO = b"good-too,Soup,how to cook soup,en-GB,40,"
FIRST_BAD_LINE = 3
"""After the header and the first good line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where commands are given, with services under way."""

    home: Path
    environment: dict[str, str]
    services: PressroomRun

    def command(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        with pressroom(self.home, *arguments, **self.environment) as run:
            code, output = run.finish_text()
            return code, output, run.stderr

    def submit(self, file: Path, *options: str) -> tuple[int, str, str]:
        rejected = file.parent / "rejected.jsonl"
        return self.command("submit", "articles", file, "--rejected", rejected, *options)

    def num_batches(self) -> int:
        return self.services.count("SELECT count(*) FROM batches")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("desk") / "home"
    with pressroom(home, "services") as services:
        services.wait_until(lambda: "until Ctrl-C" in services.stderr, "services")
        environment = {"engine": "scripted", "models_dir": str(model_folder.parent)}
        yield Desk(home=home, environment=environment, services=services)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A file with a good line, one bad line of each sort, and a good line."""
    lines = (HEADER, GOOD, *(line for line, _, _ in BAD_LINES), GOOD_TOO)
    path = tmp_path / "mixed.csv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.attack("prompt longer than the context")
@pytest.mark.attack("misshapen file")
def test_good_lines_run_and_every_bad_one_is_named(desk: Desk, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, said = desk.command("run", "articles", mixed, "--out", out, "--json")
    counts = json.loads(printed)["counts"]
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]

    assert code == 1
    assert {path.stem for path in (out / "articles").glob("*.md")} == {"good", "good-too"}
    assert (counts["total"], counts["succeeded"], counts["rejected"]) == (2, 2, len(BAD_LINES))
    assert [(line["line"], line.get("column"), line["code"]) for line in rejected] == [
        (number, column, code) for number, (_, column, code) in enumerate(BAD_LINES, FIRST_BAD_LINE)
    ]
    assert all(line["file"] == str(mixed) and line["reason"] and line["advice"] for line in rejected)
    assert f"{mixed}:{FIRST_BAD_LINE}: " in said
    assert f"... and {len(BAD_LINES) - 10} more refused lines" in said


@pytest.mark.attack("secret in an input")
def test_secret_of_a_refused_line_is_written_nowhere(desk: Desk, mixed: Path, tmp_path: Path) -> None:
    code, printed, said = desk.submit(mixed)
    holders = [path for folder in (tmp_path, desk.home) for path in folder.rglob("*") if holds_secret(path)]

    assert code == 1
    assert SECRET not in printed + said
    assert holders == [mixed]


def holds_secret(path: Path) -> bool:
    """Whether it is in the file; Postgres may remove one of its own meanwhile."""
    try:
        return path.is_file() and SECRET.encode() in path.read_bytes()
    except FileNotFoundError:
        return False


def test_strict_accepts_nothing_of_a_file_with_a_bad_line(desk: Desk, mixed: Path) -> None:
    before = desk.num_batches()
    code, printed, said = desk.submit(mixed, "--strict")

    assert (code, printed) == (1, "")
    assert f"error [line_rejected]: {len(BAD_LINES)} lines were refused and nothing was accepted" in said
    assert desk.num_batches() == before


@pytest.mark.attack("misshapen file")
@pytest.mark.parametrize(
    ("content", "error", "advice"),
    [
        (b"id,titel,topic\na,A,b\n", "unknown_column", "did you mean 'title'?"),
        (b"id,tone\na,warm\n", "missing_column", "title or topic"),
        ("id,title\na,Café\n".encode("cp1252"), "text_invalid_unicode", "give --encoding cp1252"),
        (b"", "file_empty", "write one line"),
        (b"id,title\n", "file_header_only", "write one line"),
    ],
    ids=["unknown column", "missing column", "code page", "empty", "header only"],
)
def test_unusable_file_is_refused_and_said_why(
    desk: Desk, tmp_path: Path, content: bytes, error: str, advice: str
) -> None:
    before = desk.num_batches()
    (tmp_path / "briefs.csv").write_bytes(content)
    code, printed, said = desk.submit(tmp_path / "briefs.csv")

    assert (code, printed) == (1, "")
    assert f"error [{error}]: {tmp_path / 'briefs.csv'}:" in said
    assert advice in said
    assert desk.num_batches() == before


@pytest.mark.attack("misshapen file")
def test_windows_line_ends_a_mark_and_gzip_are_no_fault(desk: Desk, tmp_path: Path) -> None:
    lines = b"\r\n".join((HEADER, GOOD, b"", GOOD_TOO, b""))
    (tmp_path / "briefs.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines))
    code, printed, said = desk.submit(tmp_path / "briefs.csv.gz", "--json")
    counts = json.loads(printed)["counts"]

    assert code == 0, said
    assert (counts["total"], counts["queued"], counts["rejected"]) == (2, 2, 0)


@pytest.mark.parametrize(
    "arguments",
    [("run", "articles"), ("submit", "articles", "no-such-file.csv"), ("status", "not-an-id")],
    ids=["no file", "absent file", "no id"],
)
def test_wrong_usage_exits_with_2(desk: Desk, arguments: tuple[str, ...]) -> None:
    code, printed, said = desk.command(*arguments)

    assert (code, printed) == (2, "")
    assert "Usage: " in said
