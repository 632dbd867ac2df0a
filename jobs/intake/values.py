"""Parses JSON that every reader understands in the same way, and converts single values to text.

Duplicate keys, numbers that readers may interpret differently, and deep nesting are refused.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date
from decimal import Decimal

from jobs.errors import InputError
from jobs.rejection import quoted

MAX_DEPTH = 32
"""Maximum depth of nesting. Payloads are flat, and some parsers need a stack frame for each level."""

MAX_INTEGER = 2**53 - 1
"""Maximum absolute value of an integer. JSON readers disagree about larger ones (RFC 8259, section 6), and
canonical JSON (RFC 8785) does not allow them."""

_TOKEN = re.compile(
    r'(?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")(?P<colon>\s*:)?|(?P<open>[\[{])|(?P<close>[\]}])'
    r"|(?P<scalar>-?(?:NaN|Infinity)|-?\d[\d.eE+-]*)"
)


_ADVICE = {
    "json_too_deep": "flatten the object",
    "json_number_invalid": "correct the number, or write it as a string",
    "json_duplicate_key": "remove or rename one of the two keys",
}


class JsonRefusedError(InputError):
    """The text is not JSON, or readers may interpret it differently."""

    code = "json_invalid"

    def __init__(self, code: str, reason: str, character: int) -> None:
        super().__init__(f"{reason} at character {character}", code=code)
        self.reason = reason
        self.advice = _ADVICE.get(code, "write one JSON object per line")
        self.character = character


class _RefusedNumberError(ValueError):
    """A number that is refused while json.loads runs. Its position is determined afterwards."""


def parse(text: str) -> object:
    """Parse one JSON value.

    Raises JsonRefusedError: `json_invalid`, `json_too_deep`, `json_duplicate_key`, `json_number_invalid`.

    >>> parse('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    # Counting brackets is cheap. The depth is determined only for texts with many brackets.
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise JsonRefusedError("json_invalid", error.msg, error.pos + 1) from error
    except _RefusedNumberError as error:
        position = _position_of_number(text)
        raise JsonRefusedError("json_number_invalid", str(error), position) from error
    except KeyError as error:
        name, position = _first_duplicate(text)
        raise JsonRefusedError(
            "json_duplicate_key", f"the key {quoted(name)} occurs twice", position
        ) from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise KeyError("duplicate")
    return fields


def _refuse_number(literal: str) -> object:
    raise _RefusedNumberError(f"{literal} is not JSON")


def _finite_float(literal: str) -> float:
    number = float(literal)
    if number in (float("inf"), float("-inf")):
        raise _RefusedNumberError("the number is too large for a float")
    return number


def _exact_int(literal: str) -> int:
    # The digits are counted first, because int() is slow for thousands of digits, and raises another error.
    if len(literal) > 17 or abs(int(literal)) > MAX_INTEGER:
        raise _RefusedNumberError(
            f"the integer with {len(literal.lstrip('-'))} digits is outside the range from -(2**53 - 1) to "
            "2**53 - 1"
        )
    return int(literal)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_refuse_number,
    parse_float=_finite_float,
    parse_int=_exact_int,
)
"""Decoder for all calls. json.loads would create one per call, which takes longer than a short line."""


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token["open"]:
            depth += 1
            if depth > MAX_DEPTH:
                reason = f"is nested deeper than {MAX_DEPTH} levels"
                raise JsonRefusedError("json_too_deep", reason, token.start() + 1)
        elif token["close"]:
            depth -= 1


def _position_of_number(text: str) -> int:
    """Return the position, from 1, of the first refused number. The text before it must be valid JSON."""
    for token in _TOKEN.finditer(text):
        literal = token["scalar"]
        if literal is None:
            continue
        try:
            if "N" in literal or "I" in literal:
                _refuse_number(literal)
            elif literal.lstrip("-").isdigit():
                _exact_int(literal)
            else:
                _finite_float(literal)
        except _RefusedNumberError:
            return token.start() + 1
    return 1


def _first_duplicate(text: str) -> tuple[str, int]:
    """Return the first key that occurs twice in an object, and the position of its repetition, from 1."""
    seen: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        if token["open"]:
            seen.append(set())
        elif token["close"]:
            seen.pop()
        elif token["colon"]:
            name = str(json.loads(token["string"]))
            if name in seen[-1]:
                return name, token.start() + 1
            seen[-1].add(name)
    return "", 1


def as_text(value: object) -> str | None:
    """Return a single value as stripped text: "" for None, NaN and infinity, and None for a list or an
    object.

    >>> as_text(17), as_text(17.0), as_text(" a "), as_text([1])
    ('17', '17', 'a', None)
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) <= MAX_INTEGER else repr(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    return None
