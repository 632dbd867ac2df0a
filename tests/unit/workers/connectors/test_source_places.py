"""File sources read no secrets, and what is refused shows none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.intake.payloads import Rejected, read_lines
from jobs.rejection import FileRejectedError
from jobs.sources import FileSource, SourceRefusedError
from kinds.article.kind import ArticleKind
from workers.connectors.files import read_file_source

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.attack("source that reads the home folder")
def test_home_folder_is_no_source_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "state.json").write_text('{"password": "hunter2"}\n')
    (tmp_path / "link").symlink_to(home)
    (tmp_path / "news.json").symlink_to(home / "state.json")
    monkeypatch.setenv("PRESSROOM_HOME", str(home))
    for path in (
        home, home / "state.json", tmp_path / "link" / "state.json", tmp_path / "news.json",
        home / ".." / "home" / "state.json", Path(f"/proc/self/root{home}/state.json"), tmp_path,
    ):  # fmt: skip
        with pytest.raises(SourceRefusedError) as refused:
            list(read_file_source(FileSource(path=str(path)), now=NOW))
        assert refused.value.code == "source_in_home"
        assert "hunter2" not in str(refused.value)


@pytest.mark.attack("FIFO, device or folder in place of a file")
def test_pipes_and_devices_are_refused_before_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRESSROOM_HOME", str(tmp_path / "home"))
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        with pytest.raises(FileRejectedError) as refused:
            list(read_lines(path, ArticleKind()))
        assert refused.value.code == "file_not_regular"
        with pytest.raises(SourceRefusedError):
            list(read_file_source(FileSource(path=str(path)), now=NOW))
    with pytest.raises(FileRejectedError, match="is a folder"):
        list(read_lines(tmp_path, ArticleKind()))


@pytest.mark.attack("wide table")
def test_a_table_of_forty_thousand_columns_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{number}" for number in range(40_000)) + "\n")
    with pytest.raises(FileRejectedError) as refused:
        list(read_lines(path, ArticleKind()))
    assert refused.value.code == "too_many_columns"


@pytest.mark.attack("source that reads the home folder")
@pytest.mark.parametrize(
    "line",
    [
        '{"password": "hunter2", "title',
        r'{"\u0070assword": "hunter2", "title',
        r'{"to\u006ben" : "hunter2", "title',
        '{"url": "postgresql://me:hunter2@host/db", "title',
        r'{"url": "postgresql:\/\/me:hunter2@host/db", "title',
        r'{"title": "\u0041KIAABCDEFGHIJKLMNOP',
    ],
)
def test_a_refused_row_shows_no_secret_however_it_is_escaped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "a"}\n' + line + "\n")
    refused = [one for one in read_lines(path, ArticleKind()) if isinstance(one, Rejected)]
    shown = json.dumps([one.as_json() for one in refused]) + "".join(map(str, refused))
    assert len(refused) == 1
    assert "hunter2" not in shown
    assert "KIAABCDEFGHIJKLMNOP" not in shown


def test_what_is_piped_in_may_be_read_twice() -> None:
    program = (
        "from pathlib import Path; from jobs.intake.records import file_records; path = Path('/dev/stdin')\n"
        "read = [list(file_records(path, lambda names: names)) for _ in range(2)]\n"
        "assert read[0] == read[1]; print(read[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"id;title\na;b\n", capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"[(2, {'id': 'a', 'title': 'b'})]\n"
