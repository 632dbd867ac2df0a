"""Ranges of numbers and forms of labels that enter from outside, so that none goes wrong further inside."""

from __future__ import annotations

import math
import unicodedata

from jobs.errors import InputError
from jobs.shown import printable

MAX_SEED = 2**63 - 1
"""What a `bigint` of Postgres holds."""
MAX_PRIORITY = 100
MAX_SECONDS = 10 * 365 * 86_400
"""Ten years: longer than any deadline, and far from where dates end."""
MIN_DEADLINE_SECONDS = 1e-3
MAX_LABEL_CHARACTERS = 200


def check_number(value: float, low: float, high: float, name: str) -> None:
    """Raise InputError for a number outside of its range, infinite, or none at all.

    >>> check_number(3, 0, 5, "priority")
    """
    if isinstance(value, bool) or not math.isfinite(value) or not low <= value <= high:
        raise InputError(
            f"{name} is {value!r:.40}: it must be from {low} to {high}", code="number_out_of_range"
        )


def check_label(text: str, name: str) -> None:
    """Raise InputError for a label that no table, terminal or log could take as it is.

    >>> check_label("acme", "tenant")
    """
    problem = label_problem(text)
    if problem is not None:
        raise InputError(f"{name} {ascii(text)[:80]} {problem}", code="label_invalid")


def label_problem(text: str) -> str | None:
    """What is wrong with a label, or None.

    >>> label_problem("a" * 201)
    'has 201 characters: use 200 at most'
    >>> label_problem("a\\nb")
    'holds the control character U+000A: leave it out'
    """
    if not text.strip():
        return "is empty: give it at least one character"
    if len(text) > MAX_LABEL_CHARACTERS:
        return f"has {len(text)} characters: use {MAX_LABEL_CHARACTERS} at most"
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            return "holds bytes that are no UTF-8: write it in UTF-8"
        if category == "Cc":
            return f"holds the control character U+{ord(character):04X}: leave it out"
    return None


def printable_name(name: str) -> str:
    r"""A file's name as a label: what no terminal may get is written out, and the end is cut.

    >>> printable_name("br\udcffiefs\n.csv")
    'br\\udcffiefs\\u000a.csv'
    """
    return printable(name)[:MAX_LABEL_CHARACTERS]
