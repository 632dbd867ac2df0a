"""A kind of another package brings services of its own, which run beside `run` and `up`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.acceptance.running import pressroom

CHECKOUT = Path(__file__).parents[2]

MODULE = '''
import os
from contextlib import contextmanager

from pydantic import BaseModel

from jobs.kind import Artifact, Background, Kind, Result


class Note(BaseModel):
    text: str


class NoteKind(Kind[Note]):
    """Keeps notes."""

    name = "note"
    payload_type = Note
    background = (
        Background("scribe", "notes:scribe", frozenset({"run", "up"})),
        Background("torn", "notes:torn", frozenset({"run", "up"})),
    )

    def run(self, payload, context):
        return Result(artifacts=(Artifact(name="note.txt", media_type="text/plain", body=b"noted"),))


def write(line):
    with open(os.environ["SCRIBE"], "a") as file:
        file.write(line + "\\n")


class Scribe:
    def check(self):
        pass


@contextmanager
def scribe(place):
    assert place.db_url and place.s3_url and place.redis_url
    write("started")
    yield Scribe()
    write("stopped")


def torn(place):
    raise RuntimeError("the pen is broken")
'''


@pytest.fixture
def scribe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the service writes; its package is installed for every process of the test."""
    site = tmp_path / "site"
    (site / "notes-1.dist-info").mkdir(parents=True)
    (site / "notes.py").write_text(MODULE)
    (site / "notes-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: notes\nVersion: 1\n")
    (site / "notes-1.dist-info" / "entry_points.txt").write_text("[pressroom.kinds]\nnote = notes:NoteKind\n")
    path = [str(site), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("SCRIBE", str(tmp_path / "scribe.txt"))
    return tmp_path / "scribe.txt"


def test_services_of_a_kind_run_beside_its_batch_and_one_that_is_broken_ends_nothing(
    scribe: Path, tmp_path: Path
) -> None:
    file = tmp_path / "notes.csv"
    file.write_text("text\nhello\n")
    with pressroom(tmp_path / "home", "run", "note", file, "--out", tmp_path / "out", "--json") as run:
        code, printed = run.finish()
    assert code == 0, run.stderr
    assert printed["counts"]["succeeded"] == 1
    assert scribe.read_text().split() == ["started", "stopped"]
    assert "the pen is broken" in run.stderr


def test_services_of_a_kind_run_under_up_until_it_ends(scribe: Path, tmp_path: Path) -> None:
    with pressroom(tmp_path / "home", "up", "--profile", "cpu", "--device", "cpu") as up:
        up.wait_until(scribe.exists, "the service has started")
        up.interrupt()
        up.finish_text()
    assert scribe.read_text().split() == ["started", "stopped"]
