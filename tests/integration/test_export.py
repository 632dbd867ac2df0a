"""What an export leaves in a folder, and what it never touches."""

from __future__ import annotations

import errno
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.outcomes import commit
from db.reports import batch_status
from db.stages import NewJob
from jobs.errors import ConfigurationError, DiskFullError
from jobs.kind import Artifact
from kinds.article import export as articles
from kinds.article.export import export_articles
from kinds.article.quality import Quality
from pressroom import pages
from pressroom.export import (
    MAX_NAME_CHARACTERS,
    check_output,
    file_stem,
)
from pressroom.summary import Summary
from storage.filesystem import FilesystemStore
from storage.memory import MemoryStore
from storage.store import Store, StoreError
from tests.factories import (
    accept,
    artifact_place,
    claim_batch,
    failure,
    job_ids,
    new_batch,
    published,
)

HOSTILE_IDS = (
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a b",
    "A",
    "a.md",
    "a.json",
    "index",
    "-rf",
    "新聞",
    "记事",
    "é",
    "<b>",
    "x" * 255,
    "x" * 254,
    "con",
    "NUL",
    "lpt1",
    "aux.txt",
    "a.",
    "a ",
    "a:b",
    "a*b?",
    "ABC",
    "abc",
    "e\u0301",
    "\u00c9",
    file_stem("../../x"),
    file_stem("新聞"),
)


@dataclass(frozen=True)
class Line:
    """A line of a batch and the article that it became."""

    custom_id: str
    text: str
    is_within_length: bool = True
    is_within_repetition: bool = True


def finished_batch(
    database: Engine, store: Store, lines: Sequence[Line], *, failing: Sequence[str] = ()
) -> UUID:
    """A batch whose lines have become articles, with their objects in the store."""
    ids = [line.custom_id for line in lines]
    jobs = [NewJob(custom_id, {"text": custom_id, "act": "write"}) for custom_id in [*ids, *failing]]
    batch_id = accept(database, jobs, new_batch(kind="trial", name="briefs.csv"))
    claimed = {job.custom_id: job for job in claim_batch(database, batch_id)}
    outcomes = []
    for line in lines:
        article = Artifact(name="article.md", media_type="text/markdown", body=line.text.encode())
        outcomes.append(published(store, claimed[line.custom_id], [article], metrics=metrics(line)))
    commit(database, outcomes)
    commit(database, [failure(claimed[custom_id]) for custom_id in failing])
    return batch_id


def metrics(line: Line) -> Mapping[str, object]:
    return {
        "title": f"Title of {line.custom_id}",
        "requested_words": 100,
        "num_words": 90,
        "is_within_length": line.is_within_length,
        "repetition": 0.01,
        "is_within_repetition": line.is_within_repetition,
        "requested_language": "en",
        "detected_language": "en",
        "flags": [],
    }


def export(database: Engine, store: Store, batch_id: UUID, out: Path) -> Quality:
    report = batch_status(database, batch_id)
    return export_articles(database, store, Summary(report=report, elapsed_seconds=9, startup_seconds=1), out)


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_export_is_the_articles_a_page_and_a_summary(database: Engine, tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "store")
    lines = [Line("a", "# A\n\nOne.\n"), Line("b", "# B\n\nTwo.\n", is_within_length=False)]
    batch_id = finished_batch(database, store, lines, failing=["c"])
    out = tmp_path / "out"
    quality = export(database, store, batch_id, out)
    assert quality == Quality(num_articles=2, num_within_length=1, num_within_repetition=2)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        *("articles/a.md", "articles/a.json", "articles/b.md", "articles/b.json"),
        *("results.jsonl", "failed.jsonl", "index.html", "summary.json"),
    }
    assert (out / "articles/a.md").read_text() == "# A\n\nOne.\n"
    assert [record["id"] for record in records(out / "results.jsonl")] == ["a", "b"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["batch_id"] == str(batch_id)
    assert summary["quality"] == {
        "within_length": {"count": 1, "of": 2, "tolerance": 0.4},
        "within_repetition": {"count": 2, "of": 2, "bound": 0.1},
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    for part in ("<p>One.</p>", "<p>Two.</p>", 'href="articles/a.json"', "trial_permanent"):
        assert part in page


def test_the_page_stops_at_its_limit_and_the_figures_do_not(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(articles, "MAX_PAGE_ARTICLES", 2)
    monkeypatch.setattr(pages, "MAX_PAGE_FAILURES", 1)
    store = MemoryStore()
    lines = [Line(f"line-{number}", f"# T\n\nText {number}.\n") for number in range(5)]
    batch_id = finished_batch(database, store, lines, failing=["x", "y"])
    assert export(database, store, batch_id, tmp_path).num_within_length == 5
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Text 1." in page
    assert "Text 2." not in page
    assert (page.count("<article "), page.count("trial_permanent")) == (2, 1)
    assert len(records(tmp_path / "results.jsonl")) == 5


@pytest.mark.attack("names that collide on other file systems")
def test_hostile_ids_get_files_of_their_own_inside_the_folder(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    lines = [Line(custom_id, f"# T\n\nOf {custom_id}.\n") for custom_id in HOSTILE_IDS]
    out = tmp_path / "deep" / "out"
    export(database, store, finished_batch(database, store, lines), out)
    written = records(out / "results.jsonl")
    assert [record["id"] for record in written] == list(HOSTILE_IDS)
    for line, record in zip(lines, written, strict=True):
        path = out / str(record["file"])
        assert path.parent == out / "articles"
        assert path.read_text(encoding="utf-8") == line.text
        assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["id"] == line.custom_id
        assert len(path.stem) <= MAX_NAME_CHARACTERS
    names = [path.name for path in (out / "articles").iterdir()]
    assert len(names) == 2 * len(HOSTILE_IDS)
    assert len({unicodedata.normalize("NFKD", name).casefold() for name in names}) == len(names)
    assert not {name.partition(".")[0] for name in names} & {"con", "nul", "aux", "lpt1"}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents] == []


def test_a_second_export_replaces_the_first_and_nothing_else(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    first = finished_batch(database, store, [Line("old", "# T\n\nOld.\n")])
    second = finished_batch(database, store, [Line("new", "# T\n\nNew.\n")])
    export(database, store, first, tmp_path)
    (tmp_path / "articles" / "mine.md").write_text("not from an export")
    export(database, store, second, tmp_path)
    assert {path.name for path in (tmp_path / "articles").iterdir()} == {"mine.md", "new.md", "new.json"}
    assert "Old." not in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    [
        '{"file": "../kept.md"}',
        '{"file": "articles/../../kept.md"}',
        '{"file": "link/kept.md"}',
        '{"file": "KEPT"}',
        '{"file": "own.md"}',
        '{"file": "articles"}',
        '{"file": "articles/inner"}',
        '{"file": "articles/\\u0000"}',
        '{"file": 7}',
        "{}",
        "[]",
        "",
        '{"file": "articles/torn',
        "\u00ff",
    ],
)
def test_whatever_an_earlier_results_file_names_only_articles_are_removed(
    database: Engine, tmp_path: Path, line: str
) -> None:
    kept, out = tmp_path / "kept.md", tmp_path / "out"
    (out / "articles" / "inner").mkdir(parents=True)
    for path in (kept, kept.with_suffix(".json"), out / "own.md"):
        path.write_text("mine")
    (out / "link").symlink_to(tmp_path, target_is_directory=True)
    (out / "articles" / "earlier.md").write_text("of an earlier export")
    named = line.replace("KEPT", str(kept))
    (out / "results.jsonl").write_text(f'{{"file": "articles/earlier.md"}}\n{named}\n', encoding="latin-1")
    store = MemoryStore()
    export(database, store, finished_batch(database, store, [Line("a", "# T\n\nNew.\n")]), out)
    assert {path.read_text() for path in (kept, kept.with_suffix(".json"), out / "own.md")} == {"mine"}
    assert not (out / "articles" / "earlier.md").exists()
    assert (out / "articles" / "inner").is_dir()
    assert (out / "articles" / "a.md").exists()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path, and every folder with nothing in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def test_an_interrupted_export_leaves_the_earlier_one_whole(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    export(database, store, finished_batch(database, store, [Line("a", "# T\n\nOld.\n")]), tmp_path)
    before = contents(tmp_path)
    second = finished_batch(database, store, [Line(name, f"# T\n\nNew {name}.\n") for name in "ab"])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(articles, "render_articles_page", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(database, store, second, tmp_path)
    assert contents(tmp_path) == before


class LossyStore(FilesystemStore):
    """Away once a part of one pack is read."""

    away = "nothing"

    def get_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        if key == self.away:
            raise StoreError("the store went away")
        return super().get_range(key, offset, num_bytes)


def test_an_export_that_fails_on_its_last_object_leaves_the_earlier_one_whole(
    database: Engine, tmp_path: Path
) -> None:
    store, out = LossyStore(tmp_path / "store"), tmp_path / "out"
    export(database, store, finished_batch(database, store, [Line("a", "# T\n\nOld.\n")]), out)
    before = contents(out)
    lines = [Line("a", "# T\n\nNew.\n"), *(Line(f"b{number}", f"# T\n\n{number}.\n") for number in range(99))]
    second = finished_batch(database, store, lines)
    store.away = artifact_place(database, job_ids(database, second)[-1]).key
    with pytest.raises(StoreError):
        export(database, store, second, out)
    assert contents(out) == before


def test_a_batch_without_an_article_leaves_the_results_of_another_alone(
    database: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore()
    export(database, store, finished_batch(database, store, [Line("a", "# T\n\nOld.\n")]), tmp_path)
    before = contents(tmp_path)
    second = finished_batch(database, store, [], failing=["b"])
    assert export(database, store, second, tmp_path) == Quality()
    assert contents(tmp_path) == before
    assert f"pressroom results {second} --out" in capsys.readouterr().err


def test_a_batch_without_an_article_writes_its_failures_over_its_own_export(
    database: Engine, tmp_path: Path
) -> None:
    batch_id = finished_batch(database, MemoryStore(), [], failing=["b"])
    for _ in range(2):
        export(database, MemoryStore(), batch_id, tmp_path)
        assert [record["id"] for record in records(tmp_path / "failed.jsonl")] == ["b"]


def test_an_output_that_cannot_be_written_is_an_error_that_says_what_to_do(
    database: Engine, tmp_path: Path
) -> None:
    store, out = MemoryStore(), tmp_path / "out"
    batch_id = finished_batch(database, store, [Line("a", "# T\n\nText.\n")])
    out.write_text("not a folder")
    with pytest.raises(ConfigurationError, match=f"{out}.*pressroom results {batch_id} --out DIR") as caught:
        export(database, store, batch_id, out)
    assert caught.value.code == "output_unwritable"
    with pytest.raises(ConfigurationError, match=f"{out} cannot be written.*--out") as caught:
        check_output(out)
    assert caught.value.code == "output_unwritable"
    assert out.read_text() == "not a folder"


def test_a_full_disk_is_named_and_leaves_no_torn_page(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    batch_id = finished_batch(database, store, [Line("a", "# T\n\nText.\n")])
    export(database, store, batch_id, tmp_path)
    before = contents(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskFullError, match=f"{tmp_path}.*No space left.*pressroom results {batch_id}"):
        export(database, store, batch_id, tmp_path)
    assert contents(tmp_path) == before


def test_checking_an_output_makes_the_folder_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    check_output(tmp_path / "deep" / "out")
    assert list((tmp_path / "deep" / "out").iterdir()) == []
