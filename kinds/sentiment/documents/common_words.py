"""Word lists that ship with the package, one file each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def word_list(name: str) -> frozenset[str]:
    """Return the words of words/NAME.txt.

    - `common`: English words that headlines use, in lower case, some of which are names of companies.
    - `abbreviations`: words in capitals that are tickers, too.
    - `english` and `other_languages`: function words that distinguish English from the other languages in
      Latin script.
    - `headlines`: further English words: those that occur 6 times in lower case in half of SEntFiN and of
      financial tweets (docs/experiments.md), without those that other languages spell alike.
    - `shared`: words of the English lists that German, Dutch or a Romance language has, too, so that they
      are no evidence in a text of few words.
    """
    text = files("kinds.sentiment.documents").joinpath("words", f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def is_common(word: str) -> bool:
    """Return whether a single word alone is no evidence of a company.

    >>> is_common("Target"), is_common("CEO"), is_common("Infosys")
    (True, True, False)
    """
    return word.lower() in word_list("common") or word in word_list("abbreviations")
