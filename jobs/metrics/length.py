"""How far a text's length is from the asked one."""

from __future__ import annotations

LENGTH_TOLERANCE = 0.4
"""A text within 40% of the asked words counts as of the asked length: the bound the project promises."""


def relative_length_error(num_words: int, asked_words: int) -> float:
    """Signed relative error, (actual - asked) / asked, as in any text on measurement.

    >>> relative_length_error(80, 100)
    -0.2
    """
    if asked_words < 1:
        raise ValueError(f"asked_words is {asked_words}, it must be at least 1")
    return (num_words - asked_words) / asked_words


def is_within_length(num_words: int, asked_words: int) -> bool:
    """Whether the length is within LENGTH_TOLERANCE of the asked one.

    >>> is_within_length(140, 100), is_within_length(59, 100)
    (True, False)
    """
    return abs(relative_length_error(num_words, asked_words)) <= LENGTH_TOLERANCE
