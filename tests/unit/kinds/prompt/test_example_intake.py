"""A file of examples is read and checked as rows are, and stored once for the batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Connection

from jobs.errors import ConfigurationError, InputError
from jobs.inference import ModelTaskError
from jobs.intake.payloads import Items
from jobs.rejection import FileRejectedError, Rejected
from kinds.prompt.examples import MAX_EXAMPLES, Example, read_examples
from kinds.prompt.intake import read_table
from kinds.prompt.kept import row_key
from kinds.prompt.payload import PromptSettings
from storage import open_store
from storage.resources import read_resource
from tests.tiny_model import write_tiny_model
from workers.intake import BatchRequest, InputMissingError, IntakeSource
from workers.models.install import add_model
from workers.models.sources import FolderSource
from workers.producer import new_batch
from workers.settings import DEFAULT_EMBEDDER, Settings

SECRET = "AKIAABCDEFGHIJKLMNOP"

GOOD = {"name": "pans", "label": "kitchen"}


class Desk:
    """Plans batches of one row with examples, and keeps what is refused."""

    def __init__(self, folder: Path) -> None:
        self.url = f"file:{folder / 'store'}"
        self.models = folder / "models"
        self.rejected: list[Rejected] = []

    def plan(self, examples: Path | Items | None, **settings: object) -> PromptSettings:
        """Return the settings of the batch."""
        return _planned(self.source(examples, **settings))

    def source(self, examples: Path | Items | None, **settings: object) -> IntakeSource:
        values: dict[str, object] = {"template": "About {{ name }}.", "into": "label", **settings}
        inputs: dict[str, Path | Items] = {"rows": [{"name": "lamps"}]}
        return IntakeSource(
            inputs=inputs if examples is None else inputs | {"examples": examples},
            request=BatchRequest(kind="prompt", model="tiny", settings=values),
            options=PromptSettings.model_validate(values),
            connection=cast("Connection", None),  # a table needs no database
            settings=Settings(home=Path("/nonexistent"), models_dir=self.models),
            on_rejected=self.rejected.append,
            on_note=lambda _: None,
            s3_url=self.url,
        )

    def stored(self, examples: Path | Items, **settings: object) -> list[Example]:
        """Return the examples that the jobs will read."""
        digest = self.plan(examples, **settings).examples_sha256
        assert digest is not None
        return list(read_examples(read_resource(open_store(self.url), digest)))

    def refusals(self, examples: Iterable[Mapping[str, object]], **settings: object) -> list[tuple[int, str]]:
        """Return the lines and codes of the refused examples, among which is one that can be used."""
        stored = self.stored([*examples, GOOD], **settings)
        assert [each.turn for each in stored] == ["About pans."]
        return [(each.line, each.code) for each in self.rejected]


def _planned(source: IntakeSource) -> PromptSettings:
    return PromptSettings.model_validate(read_table(source).settings)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_examples_of_every_format_are_stored_with_their_turns_and_answers(desk: Desk, tmp_path: Path) -> None:
    rows = [{"id": "e1", "name": "pans", "label": "kitchen"}, {"id": "e2", "name": "ropes", "label": "sport"}]
    csv, jsonl, parquet = (tmp_path / f"examples.{end}" for end in ("csv", "jsonl", "parquet"))
    csv.write_text("id,name,label\ne1,pans,kitchen\ne2,ropes,sport\n", encoding="utf-8")
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    for path in (csv, jsonl, parquet):
        assert desk.stored(path) == [
            Example(name="e1", turn="About pans.", answer="kitchen"),
            Example(name="e2", turn="About ropes.", answer="sport"),
        ]
    assert not desk.rejected


def test_an_example_without_an_id_is_named_by_its_line(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "examples.csv"
    path.write_text("name,label\npans,kitchen\n", encoding="utf-8")
    assert [each.name for each in desk.stored(path)] == ["line-2"]


def test_the_settings_name_the_examples_and_the_embedder(desk: Desk) -> None:
    own = desk.plan([GOOD], num_examples=5)
    assert (own.num_examples, own.embedder) == (5, DEFAULT_EMBEDDER)
    assert own.embedder_digest == ""
    assert desk.plan([GOOD], embedder="other", keep="shop").embedder_digest == "other"
    assert desk.plan(None).embedder is None


def test_a_trial_stores_nothing(desk: Desk, tmp_path: Path) -> None:
    digest = _planned(replace(desk.source([GOOD]), is_trial=True)).examples_sha256
    assert not (tmp_path / "store").exists()
    assert desk.plan([GOOD]).examples_sha256 == digest


def test_profile_without_the_embedder_is_an_error_that_names_the_setting(desk: Desk) -> None:
    source = desk.source([GOOD], embedder="other")
    request = replace(source.request, settings=read_table(source).settings)
    with pytest.raises(ConfigurationError, match=r"all of the models tiny, other: add one to PRESSROOM_PROF"):
        new_batch(request, source.settings, name="rows")


def test_bad_examples_are_refused_by_line_and_the_others_go_on(desk: Desk) -> None:
    assert desk.refusals(
        [
            {"name": "a <|im_end|>", "label": "b"},
            {"name": "a", "label": SECRET},
            {"name": "a", "label": " "},
            {"name": "a", "label": "b\0"},
            {"id": "x", "name": "a", "label": ""},
        ]
    ) == [
        (1, "input_control_token"),
        (2, "secret_in_input"),
        (3, "example_invalid"),
        (4, "text_invalid_unicode"),
        (5, "example_invalid"),
    ]
    assert "items:3" in str(desk.rejected[2])
    assert "the answer in column 'label' is empty" in str(desk.rejected[2])


def test_a_second_example_with_an_id_is_refused(desk: Desk) -> None:
    rows = [{"id": "e1", **GOOD}, {"id": "e1", "name": "a", "label": "b"}]
    assert len(desk.stored(rows)) == 1
    assert [(each.line, each.code) for each in desk.rejected] == [(2, "duplicate_id")]


def test_an_example_that_is_too_long_for_the_model_is_refused_with_both_lengths(
    desk: Desk, tmp_path: Path
) -> None:
    add_model("tiny", desk.models, FolderSource(write_tiny_model(tmp_path / "tiny")))
    assert desk.refusals([{"name": "hello " * 300, "label": "b"}], max_tokens=8) == [(1, "prompt_too_long")]
    assert "128" in desk.rejected[0].reason


def test_an_example_may_not_be_cut_as_a_row_may(desk: Desk, tmp_path: Path) -> None:
    add_model("tiny", desk.models, FolderSource(write_tiny_model(tmp_path / "tiny")))
    refused = desk.refusals([{"name": "hello " * 300, "label": "b"}], max_tokens=8, truncate="end")
    assert refused == [(1, "prompt_too_long")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "a"}, "has no column 'label'"),
        ({"label": "a"}, "has no column 'name'"),
        ({"name": "a", "Label": "b"}, r"has no column 'label' \(did you mean 'Label'\?\)"),
    ],
)
def test_a_missing_column_refuses_the_file_by_name(desk: Desk, row: dict[str, object], message: str) -> None:
    with pytest.raises(FileRejectedError, match=message):
        desk.plan([row])


def test_too_many_examples_are_refused_by_name(desk: Desk) -> None:
    rows = ({"name": f"{number}", "label": "b"} for number in range(MAX_EXAMPLES + 1))
    with pytest.raises(FileRejectedError, match=r"has more than 5,000 examples") as caught:
        desk.plan(rows)
    assert caught.value.code == "too_many_examples"


def test_examples_that_are_too_long_together_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinds.prompt.intake.MAX_EXAMPLES_CHARACTERS", 30)
    with pytest.raises(FileRejectedError, match="30 characters"):
        desk.plan([GOOD, GOOD])


def test_a_file_without_a_usable_example_is_refused(desk: Desk) -> None:
    with pytest.raises(FileRejectedError, match="has no example that can be used"):
        desk.plan([{"name": "a", "label": ""}])
    with pytest.raises(FileRejectedError, match="contains no records"):
        desk.plan([])


@pytest.mark.parametrize("settings", [{"num_examples": 5}, {"embedder": "minilm"}])
def test_settings_for_examples_need_examples(desk: Desk, settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match="no effect without examples"):
        desk.plan(None, **settings)


def test_examples_need_a_template(desk: Desk) -> None:
    with pytest.raises(InputMissingError, match="there is no template"):
        desk.plan([GOOD], template="")


def test_an_embedder_that_does_not_embed_is_refused(desk: Desk, tmp_path: Path) -> None:
    add_model("tiny", desk.models, FolderSource(write_tiny_model(tmp_path / "tiny")))
    with pytest.raises(ModelTaskError, match="'tiny' is made for the task 'generate'"):
        desk.plan([GOOD], embedder="tiny")


def test_kept_results_depend_on_the_examples(desk: Desk) -> None:
    plans = [
        desk.plan(None, keep="shop"),
        desk.plan([GOOD], keep="shop"),
        desk.plan([{**GOOD, "label": "home"}], keep="shop"),
        desk.plan([GOOD], keep="shop", num_examples=1),
        desk.plan([GOOD], keep="shop", embedder="other"),
    ]
    assert len({row_key({"name": "lamps"}, own) for own in plans}) == len(plans)
    again = desk.plan([GOOD], keep="shop")
    assert row_key({"name": "lamps"}, again) == row_key({"name": "lamps"}, plans[1])
