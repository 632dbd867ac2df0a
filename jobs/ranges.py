"""Checks numbers and labels that come from users."""

from __future__ import annotations

import math
import unicodedata

from jobs.errors import InputError
from jobs.shown import printable

MAX_TOKEN_ID = 10_000_000
"""Maximum token id of a bias: no vocabulary is that large. The engine knows the vocabulary of the model."""

MAX_TOKENS = 1_000_000
"""Maximum value of a number of tokens. The engine knows the context of the model."""

MAX_SEED = 2**63 - 1
"""Maximum seed: the largest `bigint` of Postgres."""
MAX_PRIORITY = 100
MAX_SECONDS = 10 * 365 * 86_400
"""Maximum duration in seconds: ten years, which is longer than any deadline and far from the limits of
dates."""
MIN_DEADLINE_SECONDS = 1e-3
MAX_LABEL_CHARACTERS = 200


def check_number(value: float, low: float, high: float, name: str) -> None:
    """Raise InputError for a number that is not between `low` and `high`, or that is infinite or NaN.

    >>> check_number(3, 0, 5, "priority")
    """
    if isinstance(value, bool) or not math.isfinite(value) or not low <= value <= high:
        raise InputError(
            f"{name} is {value!r:.40}; it must be between {low} and {high}", code="number_out_of_range"
        )


def check_label(text: str, name: str) -> None:
    """Raise InputError for a label that tables, terminals or logs cannot contain unchanged.

    >>> check_label("acme", "tenant")
    """
    problem = label_problem(text)
    if problem is not None:
        raise InputError(f"{name} {ascii(text)[:80]} {problem}", code="label_invalid")


def label_problem(text: str) -> str | None:
    """Return what is wrong with a label, and what to do about it; None if it is valid.

    >>> label_problem("a" * 201)
    'has 201 characters: use at most 200'
    >>> label_problem("a\\nb")
    'contains the control character U+000A: remove it'
    """
    if not text.strip():
        return "is empty: give it at least one character"
    if len(text) > MAX_LABEL_CHARACTERS:
        return f"has {len(text)} characters: use at most {MAX_LABEL_CHARACTERS}"
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            return "contains bytes that are not UTF-8: write it in UTF-8"
        if category == "Cc":
            return f"contains the control character U+{ord(character):04X}: remove it"
    return None


def printable_name(name: str) -> str:
    r"""Return a file's name as a label: escape characters that may act on a terminal, and cut a long name.

    >>> printable_name("br\udcffiefs\n.csv")
    'br\\udcffiefs\\u000a.csv'
    """
    return printable(name)[:MAX_LABEL_CHARACTERS]
