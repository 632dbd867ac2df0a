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
_SHORTER = {
    " after validation": "",
    ", got a number with a fractional part": ", without a fractional part",
    "be greater than or equal to": "be at least",
    "be less than or equal to": "be at most",
    "be a valid integer": "be an integer",
    "be a valid ": "be a ",
}
"""Shorter forms of phrases that pydantic uses, in the order in which they are replaced."""

_OWN = re.compile(r"(?:Value error|Assertion failed), ")


def problem_of(fault: ErrorDetails, *, noun: str = "field") -> str:
    """Return what is wrong with a value: a sentence, or the predicate of one whose subject is the value.

    `noun` is the word for what an unknown name should have been, such as "field".

    >>> problem_of({"type": "list_type", "loc": ("days",), "msg": "Input should be a valid list", "input": 1})
    'must be a list'
    """
    return _predicate(fault, noun) or _OWN.sub("", fault["msg"], count=1)


def describe_fault(
    fault: ErrorDetails, *, noun: str = "field", place: str | None = None, advice: str = ""
) -> str:
    """Return a sentence that names the invalid value and says what is wrong with it.

    `place` is the name of the value, by default its path. `advice` says what to do; it is left out if the
    model's own validator raised the error, because its message contains advice.

    >>> describe_fault({"type": "missing", "loc": ("targets", 0, "url"), "msg": "Field required", "input": 0})
    'targets.0.url is missing'
    """
    place = ".".join(map(str, fault["loc"])) if place is None else place
    predicate = _predicate(fault, noun)
    if predicate is not None:
        return f"{place or 'it'} {predicate}" + (f": {advice}" if advice else "")
    sentence = problem_of(fault, noun=noun)
    return f"{place}: {sentence}" if place else sentence


def describe_first(error: ValidationError, *, noun: str = "field", advice: str = "") -> str:
    """Describe the first of the faults, as `describe_fault` does."""
    return describe_fault(error.errors(include_url=False)[0], noun=noun, advice=advice)


def _predicate(fault: ErrorDetails, noun: str) -> str | None:
    if fault["type"] == "extra_forbidden":
        return f"is not a {noun}"
    if known := _PROBLEMS.get(fault["type"]):
        return known
    if not _SHOULD.match(fault["msg"]):
        return None
    text = fault["msg"].partition(", unable to")[0]  # the rest is about how pydantic parses
    for phrase, shorter in _SHORTER.items():
        text = text.replace(phrase, shorter)
    return _SHOULD.sub("must ", text, count=1)
