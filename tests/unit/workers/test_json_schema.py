"""Schemas that must not reach the grammar library, and those that must."""

from __future__ import annotations

import json

import pytest

from benchmarks.schemas import SCHEMAS
from workers.json_schema import MAX_DEPTH, MAX_OPTIONAL_PROPERTIES, schema_problem

Schema = dict[str, object]


def problem(schema: object) -> str | None:
    return schema_problem(json.dumps(schema))


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_of_the_benchmark_is_let_through(name: str) -> None:
    assert problem(SCHEMAS[name]) is None


@pytest.mark.parametrize(
    "keyword",
    [
        *("not", "if", "uniqueItems", "contains", "propertyNames", "dependentRequired", "$dynamicRef"),
        *("unevaluatedProperties", "$anchor", "nullable", "discriminator", "additionalItems", "maxLenght"),
        "x-guidance",
    ],
)
def test_unsupported_keyword_is_named_with_its_place(keyword: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", keyword: True}}}
    assert problem(schema) == f"the keyword {keyword!r} at #/properties/a is not supported"


def test_keyword_in_a_definition_is_named() -> None:
    assert problem({"$defs": {"x": {"not": {}}}, "$ref": "#/$defs/x"}) == (
        "the keyword 'not' at #/$defs/x is not supported"
    )


def test_property_may_have_the_name_of_a_keyword() -> None:
    assert problem({"type": "object", "properties": {"not": {"type": "string"}, "if": {}}}) is None


def test_extensions_and_annotations_change_nothing() -> None:
    assert problem({"type": "string", "x-order": 3, "title": "A", "default": "a", "$comment": "b"}) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "array", "prefixItems": [{"type": "null"}, {"$ref": "#"}], "minItems": 2},
        {"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]},
    ],
)
def test_schema_without_a_finite_value_is_refused(schema: Schema) -> None:
    assert "no finite text satisfies it" in (problem(schema) or "")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "array", "prefixItems": [{"type": "null"}, {"$ref": "#"}], "minItems": 1},
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]},
    ],
)
def test_recursion_that_can_end_is_let_through(schema: Schema) -> None:
    assert problem(schema) is None


def test_intersection_that_grows_with_its_references_is_refused_at_once() -> None:
    """Forty levels of two references each: the library would expand 2^40 schemas."""
    definitions: Schema = {
        f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(40)
    }
    definitions["d40"] = {"type": "integer"}
    reason = problem({"$defs": definitions, "$ref": "#/$defs/d0"})
    assert (reason or "").startswith("the intersection at #/$defs/d0 contains more than 2000 schemas")


def test_intersection_through_properties_is_refused_at_once() -> None:
    definitions: Schema = {
        f"{kind}{i}": {"type": "object", "properties": {p: {"$ref": f"#/$defs/{kind}{i + 1}"} for p in "ab"}}
        for kind in "de"
        for i in range(40)
    }
    definitions |= {"d40": {"type": "integer"}, "e40": {"type": "integer"}}
    both = [{"$ref": "#/$defs/d0"}, {"$ref": "#/$defs/e0"}]
    assert "intersection at #" in (problem({"$defs": definitions, "allOf": both}) or "")


def test_shared_reference_outside_of_intersections_costs_nothing() -> None:
    definitions: Schema = {
        f"d{i}": {"type": "object", "properties": {p: {"$ref": f"#/$defs/d{i + 1}"} for p in "ab"}}
        for i in range(40)
    }
    assert problem({"$defs": {**definitions, "d40": {"type": "integer"}}, "$ref": "#/$defs/d0"}) is None


@pytest.mark.parametrize("reference", ["https://example.com/s.json", "file:///etc/passwd", "#anchor", "", 3])
def test_reference_out_of_the_schema_is_refused(reference: object) -> None:
    assert "is not a place in the schema" in (problem({"$ref": reference}) or "")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"const": "a\x01b"}, "'const' at # contains a control character"),
        ({"enum": [{"a": ["\x00"]}]}, "'enum' at # contains a control character"),
        ({"properties": {"\x02": {}}}, "'properties' at # contains a control character"),
        ({"pattern": r"^a\x01$"}, r"the pattern '^a\\x01$' at # may contain a control character"),
        ({"exclusiveMinimum": True}, "'exclusiveMinimum' at # must be a number"),
        ({"type": "array", "items": [{}]}, "the schema at #/items must be an object, true or false"),
        ({"minProperties": 1}, "minProperties at # is more than the 0 required properties"),
        ([], "the schema is not a JSON object"),
        ("a", "the schema is not a JSON object"),
    ],
)
def test_what_the_library_would_get_wrong_is_refused(schema: object, reason: str) -> None:
    assert (problem(schema) or "").startswith(reason)


@pytest.mark.parametrize("pattern", [r"^\n\t\\x$", "é", r"\x41", r"\u00e9", r"\x{1F600}"])
def test_other_patterns_are_let_through(pattern: str) -> None:
    assert problem({"type": "string", "pattern": pattern}) is None


def test_number_of_optional_properties_is_limited() -> None:
    names = [f"p{i}" for i in range(MAX_OPTIONAL_PROPERTIES + 1)]
    schema: Schema = {"type": "object", "properties": {name: {} for name in names}}
    assert "are optional" in (problem(schema) or "")
    assert problem({**schema, "required": names[:1]}) is None


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_depth_is_limited(depth: int) -> None:
    source = '{"type":"array","items":' * depth + "{}" + "}" * depth
    assert "nested more than" in (schema_problem(source) or "")


@pytest.mark.parametrize("source", ["", "{", '{"a":}', "nan"])
def test_what_is_not_json_is_refused(source: str) -> None:
    assert "is not JSON" in (schema_problem(source) or "")


def test_half_of_a_surrogate_pair_is_refused() -> None:
    assert problem({"const": "\ud800"}) is not None
