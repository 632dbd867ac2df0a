"""Whether a text is about what was asked, by the words that it shares with the request."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.text.sentences import words

_STEM_CHARACTERS = 5
"""Crude stemming that needs no language: "tomatoes" and "tomato" begin alike."""
_MIN_CHARACTERS = 4
"""Shorter words are mostly articles and prepositions, in every language written with spaces."""


def names_any(text: str, references: Iterable[str]) -> bool:
    """Whether the text has a content word in common with the references; True if those have none.

    >>> names_any("Tomatoes love sun.", ["a ripe tomato"]), names_any("People do tasks.", ["bread"])
    (True, False)
    """
    wanted = _stems(" ".join(references))
    return not wanted or not wanted.isdisjoint(_stems(text))


def _stems(text: str) -> set[str]:
    return {word[:_STEM_CHARACTERS] for word in words(text) if len(word) >= _MIN_CHARACTERS}
