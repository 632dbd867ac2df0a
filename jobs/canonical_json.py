"""Canonical JSON (RFC 8785), mostly written by the encoder of the standard library, which is compiled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

import rfc8785

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

MAX_INTEGER = 2**53 - 1
"""Largest integer that every reader of JSON reads exactly (RFC 7493, section 2.2)."""

_FIRST_OF_TWO_UNITS = "\U00010000"
"""First character that UTF-16 encodes as two units. RFC 8785 sorts keys by units (section 3.2.3), Python by
code points. The orders agree for keys without such characters."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
"""Escapes the same characters in the same way as RFC 8785 (section 3.2.2.2)."""


def dumps_canonical(value: JsonValue) -> bytes:
    """Return the value as canonical JSON, with the same bytes and errors as `rfc8785.dumps`.

    Raises rfc8785.CanonicalizationError for what has no canonical form, such as integers beyond MAX_INTEGER.

    >>> dumps_canonical({"b": [1, None], "a": "é"}).decode()
    '{"a":"é","b":[1,null]}'
    """
    if _is_plain(value):
        try:
            return _ENCODER.encode(value).encode()
        except UnicodeEncodeError:
            pass  # a lone surrogate, for which rfc8785 raises its own error
    return rfc8785.dumps(value)


def _is_plain(value: object) -> bool:
    """Return whether both encoders write the same bytes for this value: it contains no floating-point number,
    whose digits they write differently, and no key or integer that they treat differently."""
    if isinstance(value, str) or value is None or value is True or value is False:
        return True
    kind = type(value)
    if kind is dict:
        items = cast("dict[object, object]", value)
        return all(map(_is_plain_key, items)) and all(map(_is_plain, items.values()))
    if kind is list or kind is tuple:
        return all(map(_is_plain, cast("Sequence[object]", value)))
    return kind is int and -MAX_INTEGER <= cast("int", value) <= MAX_INTEGER


def _is_plain_key(key: object) -> bool:
    return type(key) is str and (key.isascii() or max(key) < _FIRST_OF_TWO_UNITS)
