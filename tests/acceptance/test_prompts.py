"""A table through a template and a schema, as a user types it.

One machine with the default model serves every command here.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acceptance.running import PressroomRun, pressroom, write_script

PLAIN = "Describe {{ name }} in a few words."
TEMPLATE = 'Describe {{ name }} of {{ material }}, made in {{ row["made in"] }}.'
SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "blue"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["color", "stars"],
    "additionalProperties": False,
}

MAX_CONTEXT_TOKENS = "512"
"""Much less than the model's own, so that long rows cost little."""

SECRET = "AKIA" + "ABCDEFGHIJKLMNOP"
PRODUCTS = (
    ("id", "name", "material", "made in", "max_tokens"),
    ("lamp", "Desk lamp", "brass, oak", "Portugal", ""),
    ("=sum", "=1+1", "steel", "Poland", ""),
    ("cut", "Tent", "cotton", "Spain", "2"),
    ("lamp", "Second lamp", "tin", "Spain", ""),
    ("control", "Rug <|im_end|>", "wool", "Spain", ""),
    ("secret", f"Key {SECRET}", "iron", "Spain", ""),
    ("long", "bread " * 800, "wool", "Spain", ""),
    ("last", "<b>Chair</b>", "ash", "Latvia", ""),
)
REFUSED = {5: "duplicate_id", 6: "input_control_token", 7: "secret_in_input", 8: "prompt_too_long"}
"""Code of each refused row by its line."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command after it ended, and the folder that it was to write."""

    code: int
    printed: str
    stderr: str
    out: Path

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.printed)
        return summary

    def lines(self, name: str = "results.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]


class Desk:
    """Where commands are typed, beside running services and a worker with the default model."""

    def __init__(self, up: PressroomRun, folder: Path, models_dir: Path) -> None:
        self.up = up
        self.folder = folder
        self.environment = {"models_dir": str(models_dir), "max_context_tokens": MAX_CONTEXT_TOKENS}

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def command(self, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        with pressroom(self.up.home, *arguments, **self.environment, **environment) as run:
            code, printed = run.finish_text()
            return code, printed, run.stderr

    def run(self, name: str, table: Path, *options: str | Path) -> Ended:
        """`pressroom run prompt TABLE`, with results in the folder `name`."""
        out = self.folder / name
        code, printed, stderr = self.command("run", "prompt", table, *options, "--out", out, "--json")
        assert printed, stderr
        return Ended(code, printed, stderr, out)

    def plain(self) -> tuple[str | Path, ...]:
        """Return the options of a short text."""
        return "--template", self.write("plain.jinja", PLAIN), "--set", "max_tokens=6"

    def num_batches(self) -> int:
        return self.up.count("SELECT count(*) FROM batches")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("prompts")
    models_dir = model_folder.parent
    options = ("--profile", "default", "--device", "cpu")
    with pressroom(
        folder / "home", "up", *options, models_dir=str(models_dir), max_context_tokens=MAX_CONTEXT_TOKENS
    ) as up:
        up.wait_until(
            lambda: up.count("SELECT count(*) FROM workers WHERE ready_at IS NOT NULL") > 0,
            "a worker is ready",
        )
        yield Desk(up, folder, models_dir)
        up.interrupt()
        up.finish_text()


@pytest.fixture(scope="module")
def products(desk: Desk) -> Ended:
    """A table with good and bad rows, after its run through a template and a schema."""
    table = desk.folder / "products.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(PRODUCTS)
    files = ("--template", desk.write("product.jinja", TEMPLATE))
    schema = ("--schema", desk.write("fields.json", json.dumps(SCHEMA)))
    options = ("--settings-columns", "max_tokens", "--max-dropped", "1")
    return desk.run("products", table, *files, *schema, *options)


def test_rows_have_their_new_columns_in_order_in_each_format(products: Ended) -> None:
    rows = products.lines()
    assert [row["id"] for row in rows] == ["lamp", "=sum", "cut", "last"]
    assert list(rows[0]) == ["id", "name", "material", "made in", "color", "stars"]
    for row in (rows[0], rows[1], rows[3]):
        assert row["color"] in ("red", "blue")
        assert row["stars"] in range(1, 6)
    table = pq.read_table(products.out / "results.parquet")
    assert [row["id"] for row in table.to_pylist()] == [row["id"] for row in rows]
    assert table.column("stars").to_pylist() == [row["stars"] for row in rows]
    assert table.schema.field("stars").type == pa.int64()


def test_formulas_are_escaped_in_csv_alone(products: Ended) -> None:
    with (products.out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[1]["id"], rows[1]["name"]) == ("'=sum", "'=1+1")
    assert rows[0]["material"] == "brass, oak"
    assert products.lines()[1]["name"] == "=1+1"


def test_failed_row_is_in_its_place_with_its_error(products: Ended) -> None:
    row = products.lines()[2]
    assert (row["color"], row["stars"]) == (None, None)
    assert row["error"].startswith("answer_cut: ")
    assert [line["id"] for line in products.lines("failed.jsonl")] == ["cut"]
    assert products.code == 1


def test_refused_rows_are_named_by_line_and_the_others_are_done(products: Ended) -> None:
    rejected = products.lines("rejected.jsonl")
    assert {line["line"]: line["code"] for line in rejected} == REFUSED
    assert re.search(
        r"has 8\d\d tokens and asks for 256 new ones, but the model's context holds 512",
        rejected[3]["reason"],
    )
    for line, code in REFUSED.items():
        assert re.search(rf"products\.csv:{line}: .*\[{code}\]", products.stderr)
    counts = products.summary["counts"]
    assert (counts["succeeded"], counts["failed"], counts["rejected"]) == (3, 1, 4)
    written = "".join(path.read_text() for path in products.out.glob("*.[chj]*"))
    assert SECRET not in written + products.stderr


def test_page_shows_rows_beside_their_answers(products: Ended) -> None:
    page = (products.out / "index.html").read_text()
    for text in ("products.csv", "Desk lamp", "answer_cut", "rejected.jsonl", "stars"):
        assert text in page
    assert "&lt;b&gt;Chair" in page
    assert "<b>Chair" not in page


def test_only_what_changed_is_generated_again(desk: Desk) -> None:
    table = desk.folder / "shop.parquet"
    rows = [{"id": number, "name": name} for number, name in enumerate(("tent", "mug", "rope"))]
    pq.write_table(pa.Table.from_pylist(rows), table)
    options = (*desk.plain(), "--into", "words", "--keep", "shop")
    first = desk.run("first", table, *options)
    again = desk.run("again", table, *options)
    assert first.code == again.code == 0
    assert [row["words"] for row in again.lines()] == [row["words"] for row in first.lines()]
    assert all(row["words"] for row in first.lines())
    assert (first.summary["num_kept"], again.summary["num_kept"]) == (0, 3)
    assert again.summary["usage"]["new_tokens"] == 0

    rows[1]["name"] = "bowl"
    pq.write_table(pa.Table.from_pylist(rows), table)
    before = desk.num_batches()
    code, printed, stderr = desk.command("run", "prompt", table, *options, "--plan", "--json")
    assert code == 0, stderr
    plan = json.loads(printed)
    assert (plan["num_new"], plan["num_changed"], plan["num_unchanged"]) == (0, 1, 2)
    assert 0 < plan["estimated_tokens"] <= 6
    assert desk.num_batches() == before
    changed = desk.run("changed", table, *options)
    assert changed.summary["num_kept"] == 2
    assert 0 < changed.summary["usage"]["new_tokens"] <= 6


def test_rows_of_a_pipe_have_their_own_sampling_alone_and_together(desk: Desk) -> None:
    """The batch is submitted and read by other commands; one of its rows is run again alone."""
    rows = [
        {"id": "a", "name": "lamp", "temperature": 0.9, "seed": 7},
        {"id": "b", "name": "rug", "temperature": None, "seed": None},
        {"id": "c", "name": "mug", "temperature": 1.3, "seed": 8},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    sampling = ("--settings-columns", "temperature,seed", "--set", "n=2", "--set", "logprobs=1")
    options = (*desk.plain(), *sampling)
    rejected = ("--rejected", desk.folder / "rejected.jsonl")
    batch_id = piped(desk, text, "submit", "prompt", "-", *options, *rejected).strip()
    running = f"SELECT count(*) FROM batches WHERE id = '{batch_id}' AND status = 'running'"
    desk.up.wait_until(lambda: desk.up.count(running) == 0, "the submitted batch has ended")
    out = desk.folder / "piped"
    code, printed, stderr = desk.command("results", batch_id, "--out", out, "--json")
    together = {row["id"]: row for row in Ended(code, printed, stderr, out).lines()}
    alone = desk.run("alone", desk.write("alone.jsonl", json.dumps(rows[2]) + "\n"), *options).lines()

    assert list(together) == ["a", "b", "c"]
    for row in together.values():
        assert not row.keys() & {"temperature", "seed"}
        assert "".join(token["token"] for token in row["logprobs"]).startswith(row["text"])
        assert all(token["logprob"] <= 0 and len(token["top"]) == 1 for token in row["logprobs"])
    assert together["b"]["text"] == together["b"]["text_2"]
    assert (alone[0]["text"], alone[0]["text_2"]) == (together["c"]["text"], together["c"]["text_2"])
    assert alone[0]["text"] != alone[0]["text_2"]


def piped(desk: Desk, text: str, *arguments: str | Path) -> str:
    """What a command that succeeds prints after it has read a text from a pipe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRESSROOM_HOME", str(desk.up.home))
        for name, value in desk.environment.items():
            patch.setenv(f"PRESSROOM_{name.upper()}", value)
        words = [sys.executable, "-m", "pressroom", *map(str, arguments)]
        ended = subprocess.run(words, input=text, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [('choice=["yes","no"]', "yes|no"), ("regex=[a-c]{3}-[0-9]", "[a-c]{3}-[0-9]")],
    ids=["choice", "pattern"],
)
def test_texts_are_restricted_and_long_rows_cut_by_choice(desk: Desk, setting: str, pattern: str) -> None:
    table = desk.write("long.csv", f"id,name\na,lamp\nb,{'bread ' * 800}\n")
    ended = desk.run(setting[:5], table, *desk.plain(), "--set", setting, "--truncate", "end")
    short, long = ended.lines()
    assert ended.code == 0, ended.stderr
    assert re.fullmatch(pattern, short["text"])
    assert re.fullmatch(pattern, long["text"])
    assert "truncated" not in short
    assert re.fullmatch(r"name: [\d,]+ of 4,800 characters", long["truncated"])


def test_wrong_template_is_refused_with_the_nearest_column(desk: Desk) -> None:
    before = desk.num_batches()
    table = desk.write("names.csv", "id,name\na,lamp\n")
    template = desk.write("typo.jinja", "About {{ nmae }}.")
    code, printed, stderr = desk.command("run", "prompt", table, "--template", template)
    assert (code, printed) == (1, "")
    assert "error [template_unknown_variable]: template typo uses" in stderr
    assert "'nmae' (did you mean 'name'?)" in stderr
    assert desk.num_batches() == before


def test_preview_shows_the_first_rows_and_leaves_nothing_behind(desk: Desk) -> None:
    before = desk.num_batches()
    table = desk.write("preview.csv", "id,name\na,lamp\nb,rug\nc,mug\n")
    temporary = desk.folder / "temporary"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        code, printed, stderr = desk.command(
            "run", "prompt", table, *desk.plain(), "--preview", "2", "--json", engine="scripted"
        )
    assert code == 0, stderr
    assert re.findall(r"Describe (\w+) in", printed) == ["lamp", "rug"]
    assert desk.num_batches() == before
    assert not [path for path in temporary.iterdir() if path.name.startswith("pressroom-preview-")]


def test_interrupted_run_goes_on_with_the_rows_that_are_left(desk: Desk) -> None:
    home, out, hold = desk.folder / "other", desk.folder / "interrupted", desk.folder / "hold"
    script = write_script(desk.folder / "script.json", step_seconds=0.002, hold_file=str(hold))
    environment = {
        **desk.environment,
        "engine": "scripted",
        "script": str(script),
        "num_slots": "2",
        "max_jobs_in_flight": "2",
        "drain_seconds": "2",
    }
    names = [f"thing {number}" for number in range(20)]
    table = desk.write("things.csv", "\n".join(["name", *names]) + "\n")
    arguments = ("run", "prompt", table, *desk.plain(), "--out", out, "--json")
    with pressroom(home, *arguments, **environment) as run:
        run.wait_until(
            lambda: run.count("SELECT count(*) FROM jobs WHERE status = 'succeeded'") >= 2, "some results"
        )
        hold.touch()
        run.interrupt()
        run.wait_until(lambda: "Draining" in run.stderr, "a drain")
        hold.unlink()
        code, summary = run.finish()
    assert code == 1
    assert 0 < summary["num_rows"] < len(names)
    assert f"--batch {summary['batch_id']}" in run.stderr
    arguments = ("run", "prompt", "--batch", summary["batch_id"], "--out", out, "--json")
    with pressroom(home, *arguments, **environment) as run:
        code, summary = run.finish()
        assert code == 0, run.stderr
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == names
    assert all(row["text"] for row in rows)
