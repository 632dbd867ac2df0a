"""The new columns of a batch, and settings that do not fit the table."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from jobs.inference import ConstraintForm
from kinds.prompt.columns import ColumnExistsError, ColumnUnknownError, check_settings, new_columns
from kinds.prompt.payload import PromptSettings
from kinds.prompt.row import RowRequest, constraint_of
from kinds.prompt.schema import SchemaInvalidError

SCHEMA = json.dumps(
    {"type": "object", "properties": {"zone": {"type": "string"}, "amount": {"type": "number"}}}
)


def settings(**values: object) -> PromptSettings:
    return PromptSettings.model_validate(
        {"template": "{{ name }}", "columns": ["name", "text", "seed"]} | values
    )


def test_new_column_that_the_table_has_is_refused_by_name() -> None:
    with pytest.raises(ColumnExistsError, match=r"already has a column 'text'.*--into"):
        check_settings(settings())
    check_settings(settings(into="blurb"))


def test_property_of_the_schema_that_the_table_has_is_refused_by_name() -> None:
    schema = json.dumps({"type": "object", "properties": {"name": {}}})
    with pytest.raises(ColumnExistsError, match=r"already has a column .name..*in the schema"):
        check_settings(settings(json_schema=schema))


def test_properties_of_the_schema_are_columns_in_its_order() -> None:
    own = settings(json_schema=SCHEMA)
    assert new_columns(own) == ("zone", "amount")
    constraint = constraint_of(own)
    assert constraint is not None
    assert constraint.form is ConstraintForm.JSON_SCHEMA
    assert list(json.loads(constraint.source)["properties"]) == ["zone", "amount"]


def test_further_texts_of_a_row_have_numbered_columns() -> None:
    assert new_columns(settings(n=3, temperature=1)) == ("text", "text_2", "text_3")


def test_column_with_the_name_of_a_further_text_is_refused_if_a_column_sets_their_number() -> None:
    own: dict[str, object] = {"template": "x", "columns": ["n", "text_16"], "settings_columns": "n"}
    with pytest.raises(ColumnExistsError, match="already has a column 'text_16'"):
        check_settings(settings(**own))
    check_settings(settings(**own | {"columns": ["n", "text_17"]}))


@pytest.mark.parametrize(
    "own", [{"n": 2, "temperature": 1}, {"columns": ["name", "n"], "settings_columns": "n"}]
)
def test_property_with_the_name_of_a_further_text_is_refused(own: dict[str, object]) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {}, "a_2": {}}})
    with pytest.raises(ColumnExistsError, match="two new columns would have the name 'a_2'"):
        check_settings(settings(json_schema=schema, **own))
    check_settings(settings(json_schema=schema))


@pytest.mark.parametrize("schema", ["{", "[]", '{"type": "string"}', '{"type": "object", "properties": {}}'])
def test_schema_without_properties_is_refused(schema: str) -> None:
    with pytest.raises(SchemaInvalidError):
        check_settings(settings(json_schema=schema))


def test_settings_column_is_a_column_and_a_parameter() -> None:
    check_settings(settings(into="blurb", settings_columns="seed"))
    with pytest.raises(ColumnUnknownError, match=r"'temprature' is no sampling parameter.*'temperature'"):
        check_settings(settings(into="blurb", settings_columns="temprature"))
    with pytest.raises(ColumnUnknownError, match="has no settings column 'top_p'"):
        check_settings(settings(into="blurb", settings_columns="top_p"))


def test_row_overrides_the_parameters_of_the_batch() -> None:
    own = settings(settings_columns="temperature, seed,stop", temperature=0.5)
    request = RowRequest.of(
        {"name": "a", "temperature": "1.5", "seed": "7", "stop": '["x", "y"]'}, own, seed=3
    )
    assert request.sampling.temperature == 1.5
    assert request.sampling.seed == 7
    assert request.sampling.stop == ("x", "y")
    empty = RowRequest.of({"name": "a", "temperature": "", "seed": None}, own, seed=3)
    assert empty.sampling.temperature == 0.5
    assert empty.sampling.seed == 3


def test_texts_of_a_row_have_consecutive_seeds() -> None:
    request = RowRequest.of({"name": "a"}, settings(n=3, temperature=1), seed=10)
    assert request.sampling.seed == 10
    assert [each.seed for each in request.other_samplings()] == [11, 12]


def test_settings_are_accepted_as_text() -> None:
    own = settings(
        template_arguments="enable_thinking=true,effort=low",
        logit_bias='{"5": -100}',
        stop="END",
        choice="yes, no",
        min_tokens="4",
    )
    request = RowRequest.of({"name": "a"}, own, seed=0)
    assert request.prompt.template_arguments == (("enable_thinking", True), ("effort", "low"))
    assert request.sampling.logit_bias == ((5, -100.0),)
    assert request.sampling.stop == ("END",)
    assert request.sampling.min_new_tokens == 4
    assert own.choice == ("yes", "no")


@pytest.mark.parametrize("stop", ["[END]", "[/INST]", "[1]", "[" * 400])
def test_stop_string_may_look_like_a_list(stop: str) -> None:
    assert settings(stop=stop).stop == (stop,)
    assert settings(stop=json.dumps([stop, "x"])).stop == (stop, "x")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"n": 2}, "with temperature 0 all texts would be the same"),
        ({"choice": "a,b", "regex": "a"}, "exclude each other"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9"),
        ({"temperature": 3}, "less than or equal to 2"),
        ({"logit_bias": "5=x"}, "valid number"),
        ({"seed": 2**53}, "less than or equal"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        settings(**values)


def test_settings_survive_their_way_through_the_database() -> None:
    own = settings(logit_bias="5=-1", stop="a", template_arguments="x=1", choice="a,b", logprobs=2)
    assert PromptSettings.model_validate(json.loads(json.dumps(own.model_dump(mode="json")))) == own
