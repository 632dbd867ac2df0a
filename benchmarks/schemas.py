"""Twenty JSON schemas of growing difficulty, on which structured output is tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]


def _object(properties: Schema, required: list[str] | None = None) -> dict[str, Any]:
    """Return the schema of an object without other properties; all are required unless some are named."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _text(max_length: int, min_length: int = 0) -> dict[str, Any]:
    return {"type": "string", "minLength": min_length, "maxLength": max_length}


def _pattern(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _integer(minimum: int, maximum: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def _list(items: Schema, min_items: int, max_items: int) -> dict[str, Any]:
    return {"type": "array", "items": dict(items), "minItems": min_items, "maxItems": max_items}


def _deep(num_levels: int) -> dict[str, Any]:
    schema = _integer(0, 9)
    for level in range(num_levels, 0, -1):
        schema = _object({f"level_{level}": _list(schema, 1, 1) if level % 3 == 0 else schema})
    return schema


_NULL = {"type": "null"}
_MONEY = _object(
    {
        "amount": {"type": "number", "minimum": 0, "maximum": 10000},
        "currency": {"enum": ["EUR", "USD", "CNY"]},
    }
)
_NODE = _object({"label": _text(6), "children": _list({"$ref": "#/$defs/node"}, 0, 2)})
_LINE = _object(
    {
        "sku": _pattern("^[A-Z]{2}[0-9]{2}$"),
        "quantity": _integer(1, 20),
        "options": _list({"enum": ["gift", "express", "insured"]}, 0, 2),
    },
    ["sku", "quantity"],
)
_ORDER = _object(
    {
        "customer": _object(
            {
                "name": _text(24, 1),
                "email": {"type": ["string", "null"], "pattern": r"^[a-z]{2,8}@[a-z]{2,8}\.(com|org)$"},
            },
            ["name"],
        ),
        "lines": _list({"$ref": "#/$defs/line"}, 1, 3),
        "payment": {
            "anyOf": [
                _object({"method": {"const": "card"}, "last4": _pattern("^[0-9]{4}$")}),
                _object({"method": {"const": "invoice"}, "days": {"enum": [14, 30]}}),
            ]
        },
        "due": {"type": "string", "format": "date"},
        "note": _text(30),
    },
    ["customer", "lines", "payment"],
)

TYPICAL = "array of objects"
"""The schema under which the cost of a step is measured."""

SCHEMAS: Mapping[str, Schema] = {
    "a title": _object({"title": _text(40)}),
    "a name and a flag": _object({"name": _text(30), "in_stock": {"type": "boolean"}}),
    "a mood of three": _object({"mood": {"enum": ["negative", "neutral", "positive"]}}),
    "a year": _object({"year": _integer(1900, 2030)}),
    "numbers in ranges": _object(
        {
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "celsius": {"type": "number", "exclusiveMinimum": -273.15, "maximum": 60},
        }
    ),
    "values that may be null": _object(
        {
            "author": {"type": ["string", "null"], "maxLength": 20},
            "pages": {"anyOf": [_integer(1, 2000), _NULL]},
        }
    ),
    "two to four tags": _object({"tags": _list(_text(12, 2), 2, 4)}),
    "patterns": _object({"sku": _pattern("^[A-Z]{2}-[0-9]{4}$"), "colour": _pattern("^#[0-9a-f]{6}$")}),
    "a date and a time": _object(
        {"day": {"type": "string", "format": "date"}, "at": {"type": "string", "format": "time"}}
    ),
    "optional properties": _object(
        {"a": _integer(0, 9), "b": {"type": "boolean"}, "c": {"enum": ["x", "y"]}, "d": _text(8)}, ["b"]
    ),
    "additional properties": {
        **_object({"id": _integer(0, 999)}),
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 4,
    },
    "nested objects": _object(
        {
            "person": _object(
                {
                    "name": _text(20),
                    "address": _object({"city": _text(20), "postcode": _pattern("^[0-9]{5}$")}),
                }
            ),
            "active": {"type": "boolean"},
        }
    ),
    "array of objects": _object(
        {
            "items": _list(
                _object(
                    {
                        "sku": _pattern("^[A-Z]{3}[0-9]{3}$"),
                        "name": _text(20, 3),
                        "count": _integer(1, 99),
                        "price": {"type": "number", "minimum": 0, "maximum": 1000},
                    }
                ),
                1,
                3,
            )
        }
    ),
    "a cat or a dog": {
        "anyOf": [
            _object({"kind": {"const": "cat"}, "lives": _integer(1, 9)}),
            _object({"kind": {"const": "dog"}, "tricks": _list({"enum": ["sit", "roll", "fetch"]}, 0, 3)}),
        ]
    },
    "references": {
        "$defs": {"money": _MONEY},
        **_object({"net": {"$ref": "#/$defs/money"}, "gross": {"$ref": "#/$defs/money"}}),
    },
    "a tree": {"$defs": {"node": _NODE}, "$ref": "#/$defs/node"},
    "a point and a size": _object(
        {
            "point": {
                "type": "array",
                "prefixItems": [_integer(-90, 90), _integer(-180, 180)],
                "items": False,
                "minItems": 2,
            },
            "size": {"allOf": [{"type": "integer", "minimum": 1}, {"maximum": 64, "multipleOf": 4}]},
        }
    ),
    "other alphabets": _object(
        {
            "名前": _text(8, 1),
            "naïve “quoted”": {"enum": ["Zürich", "東京", "🙂"]},
            "символ": _pattern("^[а-я]{3,6}$"),
        }
    ),
    "twelve levels": _deep(12),
    "an order": {"$defs": {"line": _LINE}, **_ORDER},
}
"""Schemas by what they describe, the easiest first. All texts have an end, except that trees may be deep."""


def messages(name: str) -> tuple[tuple[str, str], ...]:
    """Return the turns of a prompt that asks for an example of a schema."""
    return (("user", f"Invent an example of {name}. Answer in JSON."),)
