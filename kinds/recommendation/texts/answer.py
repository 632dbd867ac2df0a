"""Reads the requested parts from a model's answer: from JSON, repaired JSON, or text that resembles it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import json_repair

MAX_ANSWER_CHARACTERS = 10_000
"""Characters of an answer that are read, far more than any text; repairing a longer one would waste time."""

_FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)
_QUOTES = "\"'“”„`"
_PREFACE = re.compile(
    r"^(?:sure|certainly|of course|here (?:is|are)\b|here's|as an ai)[^\n]{0,100}?[:!]\s*", re.IGNORECASE
)


def read_answer(answer: str, parts: Sequence[str]) -> dict[str, str]:
    """Return the requested parts that the answer has, each on one line.

    >>> read_answer('Here it is: {"headline": "A mug", blurb: "Blue.",}', ("headline", "blurb"))
    {'headline': 'A mug', 'blurb': 'Blue.'}
    """
    text = _FENCE.sub(" ", answer[:MAX_ANSWER_CHARACTERS]).strip()
    begin = text.find("{")
    found: Mapping[str, object] = _strict(text[begin:]) or _repaired(text[begin:]) if begin >= 0 else {}
    if not any(part in found for part in parts):
        found = _loose(text, parts)
    said = {part: _line(value) for part in parts if isinstance(value := found.get(part), str)}
    return {part: line for part, line in said.items() if line}


def _strict(text: str) -> Mapping[str, object]:
    try:
        return _first_object(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _repaired(text: str) -> Mapping[str, object]:
    try:
        return _first_object(json_repair.loads(text))
    except (ValueError, RecursionError):
        return {}


def _first_object(value: object) -> Mapping[str, object]:
    if isinstance(value, list):
        value = next((each for each in value if isinstance(each, dict)), None)
    return (
        {str(name).strip().lower(): each for name, each in value.items()} if isinstance(value, dict) else {}
    )


def _loose(text: str, parts: Sequence[str]) -> Mapping[str, object]:
    """Read lines such as "Headline: ...", or the whole answer if only one part was requested."""
    names = "|".join(map(re.escape, parts))
    found = {
        match[1].lower(): match[2]
        for match in re.finditer(
            rf"^[ \t{{*_{_QUOTES}-]*({names})[ \t*_{_QUOTES}]*+[:=](.+)$", text, re.IGNORECASE | re.MULTILINE
        )
    }
    if not found and len(parts) == 1 and "{" not in text:
        found = {parts[0]: _PREFACE.sub("", text.strip()).partition("\n\n")[0]}
    return found


def _line(value: object) -> str:
    line = " ".join(str(value).split()).strip(",*_ ")
    while len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
        line = line[1:-1].strip()
    return line.strip(_QUOTES + " ,")
