"""Output goes into new files of a folder that was opened, and never through a link that was left there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.rejection import Rejected
from kinds.recommendation.export.files import JsonlSink, ParquetSink, json_line
from pressroom.one_machine import OneMachine
from pressroom.output import OutputUnsafeError, new_folder, replace_bytes, replace_text, unpublished_file
from pressroom.run import RunRequest, _batch, rejected_lines
from workers.delivery import FileTarget, FileTargetError, append_line
from workers.producer import Submission
from workers.settings import Settings

pytestmark = pytest.mark.attack("links planted in an output folder")

NEW = "new text"
VICTIM = "somebody else's text"


def write_lines(path: Path) -> None:
    """As a release is exported, with a row of its own."""
    with new_folder(path.parent) as new:
        with JsonlSink(new.path / path.name) as sink:
            sink._lines.write(json_line({"text": NEW}))
        new.publish()


def write_rejected(path: Path) -> None:
    with rejected_lines(path) as on_rejected:
        on_rejected(Rejected(file="a.csv", line=1, code="bad", reason=NEW, advice="mend it"))


def write_in_folder(path: Path) -> None:
    with new_folder(path.parent) as new:
        (new.path / path.name).write_text(NEW)
        new.publish()


WRITERS: list[Callable[[Path], None]] = [
    lambda path: replace_text(path, NEW),
    lambda path: replace_bytes(path, NEW.encode()),
    write_lines,
    write_rejected,
    write_in_folder,
]


@pytest.mark.parametrize("write", WRITERS, ids=["text", "bytes", "lines", "rejected", "folder"])
@pytest.mark.parametrize("plant", [os.symlink, os.link], ids=["link", "hard link"])
def test_a_planted_link_is_replaced_and_what_it_points_to_stays(
    write: Callable[[Path], None], plant: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_text(VICTIM)
    out.mkdir()
    plant(victim, out / "file")
    write(out / "file")
    assert victim.read_text() == VICTIM
    assert not (out / "file").is_symlink()
    assert NEW in (out / "file").read_text()
    assert [path.name for path in out.iterdir()] == ["file"]


@pytest.mark.parametrize("write", WRITERS, ids=["text", "bytes", "lines", "rejected", "folder"])
def test_a_dangling_link_makes_no_file_elsewhere(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").symlink_to(tmp_path / "nowhere")
    write(tmp_path / "out" / "file")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("write", WRITERS, ids=["text", "bytes", "lines", "rejected", "folder"])
def test_an_output_folder_that_is_a_link_is_refused_by_name(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputUnsafeError, match=f"{tmp_path / 'out'} is a link to {tmp_path / 'elsewhere'}"):
        write(tmp_path / "out" / "file")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_linked_subfolder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "articles").symlink_to(tmp_path / "elsewhere")
    with new_folder(tmp_path / "out") as new:
        (new.path / "articles").mkdir()
        (new.path / "articles" / "a.md").write_text(NEW)
        with pytest.raises(OutputUnsafeError, match="articles is a link"):
            new.publish()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["articles"]


def test_a_stale_file_is_not_removed_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.md").write_text(VICTIM)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "articles").symlink_to(tmp_path / "elsewhere")
    with new_folder(tmp_path / "out") as new, pytest.raises(OutputUnsafeError):
        new.publish(["articles/a.md"])
    assert (tmp_path / "elsewhere" / "a.md").read_text() == VICTIM


def test_a_folder_that_is_swapped_meanwhile_gets_nothing(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with new_folder(tmp_path / "out") as new:
        (tmp_path / "out").rename(tmp_path / "moved")
        (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
        (new.path / "file").write_text(NEW)
        new.publish()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "moved" / "file").read_text() == NEW


def test_a_linked_folder_of_parquet_files_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "part-00000.parquet").write_text(VICTIM)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "recommendations").symlink_to(tmp_path / "elsewhere")
    with new_folder(tmp_path / "out") as new:
        with ParquetSink(new.path / "recommendations"):
            pass
        new.replace_folder("recommendations")
    assert (tmp_path / "elsewhere" / "part-00000.parquet").read_text() == VICTIM
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["recommendations"]
    assert not (tmp_path / "out" / "recommendations").is_symlink()


def test_a_device_is_written_to_and_a_link_of_the_systems_stays() -> None:
    replace_text(Path("/dev/null"), NEW)
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputUnsafeError, match="name a regular file"):
        replace_text(Path("/dev/stdout"), NEW)
    assert Path("/dev/stdout").is_symlink()


def test_a_file_that_is_not_published_leaves_the_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(VICTIM)
    with unpublished_file(tmp_path / "file") as new:
        new.file.write(NEW)
    assert (tmp_path / "file").read_text() == VICTIM
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.attack("refusals emptied by a later writer")
def test_refused_lines_stay_where_the_input_is_not_read_again(tmp_path: Path) -> None:
    write_rejected(tmp_path / "rejected.jsonl")
    with rejected_lines(tmp_path / "rejected.jsonl") as again:
        again.are_new = False
    assert NEW in (tmp_path / "rejected.jsonl").read_text()


def test_refused_lines_are_kept_when_the_input_as_a_whole_is_refused(tmp_path: Path) -> None:
    with ExitStack() as exits:
        exits.enter_context(pytest.raises(ValueError, match="too many"))
        refused = exits.enter_context(rejected_lines(tmp_path / "rejected.jsonl"))
        refused(Rejected(file="a.csv", line=1, code="bad", reason=NEW, advice="mend it"))
        raise ValueError("too many")
    assert NEW in (tmp_path / "rejected.jsonl").read_text()


@pytest.mark.attack("refusals emptied by a later writer")
def test_a_run_whose_input_was_ingested_before_keeps_what_was_refused(tmp_path: Path) -> None:
    write_rejected(tmp_path / "rejected.jsonl")
    submission = Submission(uuid4(), created=True)
    request = RunRequest(
        profiles=("cpu",),
        submit=lambda _machine, _on_rejected: submission,
        batch_id=None,
        retry_failed=False,
        out=tmp_path,
        devices=(),
        resume_command=("pressroom",),
        is_ingested=True,
    )
    machine = OneMachine(Settings(), (), profiles=("cpu",), say=print)
    assert _batch(request, machine, tmp_path) is submission
    assert NEW in (tmp_path / "rejected.jsonl").read_text()


def append_alert(path: Path) -> None:
    append_line(FileTarget(name="alerts", path=str(path)), message_id="1", body="{}", is_first=True)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "folder"])
def test_alerts_are_appended_to_a_file_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "alerts.jsonl")
    with pytest.raises(FileTargetError, match="cannot be written"):
        append_alert(tmp_path / "alerts.jsonl")


def test_somebody_who_reads_the_file_of_alerts_cannot_hold_up_the_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.delivery.LOCK_SECONDS", 0.0)
    path = tmp_path / "alerts.jsonl"
    path.touch()
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(FileTargetError, match="another process has locked the file"):
            append_alert(path)
    append_alert(path)
    assert path.read_text() == "{}\n"


@pytest.mark.parametrize("exists", [True, False], ids=["link", "dangling link"])
def test_alerts_are_not_not_appended_through_a_link(exists: bool, tmp_path: Path) -> None:
    if exists:
        (tmp_path / "victim").write_text(VICTIM)
    (tmp_path / "alerts.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(FileTargetError, match="cannot be written"):
        append_alert(tmp_path / "alerts.jsonl")
    assert (tmp_path / "victim").exists() == exists
    assert not exists or (tmp_path / "victim").read_text() == VICTIM
