"""Lists of words that ship with the package, one file each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def word_list(name: str) -> frozenset[str]:
    """The words of words/NAME.txt.

    `common`: words of English that headlines use, in lower case, among them names of companies;
    `abbreviations`: capitals that are tickers, too; `english` and `other_languages`: words of function that
    tell English from the other languages of the Latin script; `headlines`: more words of English, those that
    half of SEntFiN and of financial tweets has 6 times in small letters (docs/experiments.md), without what
    other languages spell alike; `shared`: words of the lists of English that German, Dutch or a Romance
    language has as well, so that among few words they tell nothing.
    """
    text = files("kinds.sentiment.documents").joinpath("words", f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def is_common(word: str) -> bool:
    """Whether a single word says nothing about a company by itself.

    >>> is_common("Target"), is_common("CEO"), is_common("Infosys")
    (True, True, False)
    """
    return word.lower() in word_list("common") or word in word_list("abbreviations")
