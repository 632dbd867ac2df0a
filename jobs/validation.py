"""Describes what pydantic found wrong with a value, in sentences for users."""

from __future__ import annotations

import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_PROBLEMS = {
    "missing": "is missing",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "mapping_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "path_type": "must be a path",
    "timezone_aware": "must have a time zone",
}
"""Problems by pydantic's error types, where pydantic's own text names types of Python."""

_SHOULD = re.compile(r"[A-Z][A-Za-z ]{0,30}? should ")
_OWN = re.compile(r"(?:Value error|Assertion failed), ")


def problem_of(fault: ErrorDetails, *, noun: str = "field") -> str:
    """Return what is wrong with a value: a sentence, or the predicate of one whose subject is the value.

    `noun` says what an unknown name was expected to be.

    >>> problem_of({"type": "list_type", "loc": ("days",), "msg": "Input should be a valid list", "input": 1})
    'must be a valid list'
    """
    return _predicate(fault, noun) or _OWN.sub("", fault["msg"], count=1)


def describe_fault(fault: ErrorDetails, *, noun: str = "field") -> str:
    """Return a sentence that names the invalid value and says what is wrong with it.

    >>> describe_fault({"type": "missing", "loc": ("targets", 0, "url"), "msg": "Field required", "input": 0})
    'targets.0.url is missing'
    """
    place = ".".join(map(str, fault["loc"]))
    predicate = _predicate(fault, noun)
    if predicate is not None:
        return f"{place or 'it'} {predicate}"
    sentence = problem_of(fault, noun=noun)
    return f"{place}: {sentence}" if place else sentence


def describe_first(error: ValidationError, *, noun: str = "field") -> str:
    """Return `describe_fault` of the first of the faults."""
    return describe_fault(error.errors(include_url=False)[0], noun=noun)


def _predicate(fault: ErrorDetails, noun: str) -> str | None:
    if fault["type"] == "extra_forbidden":
        return f"is not a {noun}"
    if known := _PROBLEMS.get(fault["type"]):
        return known
    if not _SHOULD.match(fault["msg"]):
        return None
    # These parts describe how pydantic parses, not what the value must be.
    text = fault["msg"].partition(", unable to")[0].replace(" after validation", "")
    return _SHOULD.sub("must ", text, count=1)
