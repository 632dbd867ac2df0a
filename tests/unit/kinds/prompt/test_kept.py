"""What belongs to the key of a row's result, and what does not."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from jobs.job import job_seed
from jobs.kept import KeptResult
from jobs.kind import Artifact, Parent, Result
from kinds.prompt.kept import keep_result, kept_result, row_key, row_seed
from kinds.prompt.payload import PromptOutput, PromptSettings
from tests.plugins.kinds import TEMPLATE

ROW = {"id": "1", "name": "tent", "price": 99, "temperature": "", "seed": ""}
JOB_ID = UUID(int=7)
SCHEMA = json.dumps({"type": "object", "properties": {"zone": {"type": "string"}}})


def settings(**values: object) -> PromptSettings:
    own = {"template": "Sell a {{ name }}.", "keep": "shop", "model_digest": "a" * 64, "columns": list(ROW)}
    return PromptSettings.model_validate(own | values)


@pytest.mark.parametrize(
    "values",
    [
        {"template": "Describe a {{ name }}."},
        {"template": "{# Sell. #}Sell a {{ name }}."},
        {"system": "Be brief."},
        {"json_schema": SCHEMA},
        {"choice": ["yes", "no"]},
        {"regex": "[a-z]+"},
        {"model_digest": "b" * 64},
        {"thinking": True},
        {"temperature": 0.5},
        {"max_tokens": 10},
        {"stop": ["."]},
        {"logprobs": 0},
        {"n": 2, "temperature": 0.5},
        {"template_arguments": {"enable_thinking": True}},
    ],
)
def test_everything_that_a_result_depends_on_is_part_of_its_key(values: dict[str, object]) -> None:
    assert row_key(ROW, settings(**values)) != row_key(ROW, settings())


@pytest.mark.parametrize(
    "values",
    [
        {"into": "blurb"},
        {"template_name": "renamed"},
        {"keep": "another"},
        {"columns": [*ROW, "colour"]},
        {"settings_columns": ["temperature"]},
        {"seed": 7},
        {"batch_seed": 7},
    ],
)
def test_what_does_not_change_a_result_is_no_part_of_its_key(values: dict[str, object]) -> None:
    assert row_key(ROW, settings(**values)) == row_key(ROW, settings())


def test_row_has_the_same_key_under_another_number_and_with_other_columns_that_the_template_ignores() -> None:
    assert row_key({**ROW, "id": "2", "price": 1}, settings()) == row_key(ROW, settings())
    assert row_key({**ROW, "name": "lamp"}, settings()) != row_key(ROW, settings())


@pytest.mark.parametrize("name", ["seed", "batch_seed"])
def test_seed_that_the_user_chose_counts_where_texts_are_sampled(name: str) -> None:
    def key(seed: int) -> str:
        return row_key(ROW, settings(temperature=0.8, **{name: seed}))

    assert key(1) != key(2)
    assert key(1) == key(1)


def test_cell_that_overrides_a_parameter_counts_like_the_parameter() -> None:
    own = settings(settings_columns=["temperature", "seed"])
    assert row_key({**ROW, "temperature": "0.5"}, own) == row_key(ROW, settings(temperature=0.5))
    assert row_key({**ROW, "temperature": "0.5", "seed": "3"}, own) != row_key(
        {**ROW, "temperature": "0.5", "seed": "4"}, own
    )


def test_seed_of_a_row_comes_from_its_key_and_the_seed_of_the_batch() -> None:
    key = row_key(ROW, settings())
    assert row_seed(key, settings()) == job_seed(0, key) != row_seed(key, settings(batch_seed=1))


def result_of(body: bytes) -> Result:
    artifact = Artifact(name="text.txt", media_type="text/plain", body=body)
    return Result(
        artifacts=(artifact,),
        template=TEMPLATE,
        metrics={"num_texts": 1},
        output=PromptOutput.model_validate({"finish_reasons": ["stop"]}),
    )


def test_kept_result_has_the_same_artifacts_and_names_its_job_and_statement() -> None:
    made = keep_result(result_of("Zelt für zwei\n".encode()), settings(), key="k", subject="row-1")
    (kept,) = made.kept
    assert (kept.keep, kept.key, kept.subject) == ("shop", "k", "row-1")
    stored = KeptResult(
        key="k",
        subject="row-1",
        value=json.loads(json.dumps(kept.value)),
        job_id=JOB_ID,
        statement_sha256="c" * 64,
    )
    again = kept_result(stored)
    assert again.artifacts == made.artifacts
    assert again.metrics == {"num_texts": 1, "is_kept": True}
    assert isinstance(again.output, PromptOutput)
    assert again.output.is_kept
    assert again.parents == (Parent("kept", str(JOB_ID), "c" * 64),)
    assert (again.template, again.kept) == (None, ())


def test_text_that_postgres_cannot_hold_is_returned_and_not_kept() -> None:
    result = result_of(b"a\0b\n")
    assert keep_result(result, settings(), key="k", subject="row-1") is result
