"""Word lists, and the language of a document; lingua is used only where function words do not decide."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from jobs.text.language import detect_language, language_confidence


@cache
def word_list(name: str) -> frozenset[str]:
    """Return the words of words/NAME.txt.

    - `common`: English words that headlines use, in lower case, some of which are names of companies.
    - `abbreviations`: words in capitals that are tickers, too.
    - `english` and `other_languages`: function words that distinguish English from the other languages in
      Latin script.
    - `headlines`: further English words that occur at least 6 times in lower case in one half of the
      headlines of SEntFiN and of the financial tweets (docs/experiments.md), without those that other
      languages spell in the same way.
    - `shared`: words of the English lists that also exist in German, Dutch or a Romance language, so
      they are no evidence in a text of few words.
    """
    text = files("kinds.sentiment.documents").joinpath("words", f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def is_common(word: str) -> bool:
    """Return whether a word on its own is no evidence that a company is meant.

    >>> is_common("Target"), is_common("CEO"), is_common("Infosys")
    (True, True, False)
    """
    return word.lower() in word_list("common") or word in word_list("abbreviations")


SUPPORTED = "en"
"""Language of the data that the classifier is trained on; another model may support others."""

LANGUAGE_UNSUPPORTED = "language_unsupported"

_MAX_CHARACTERS = 2_000
"""Maximum number of characters examined; the beginning of a text is enough to detect its language."""

_MIN_WORDS = 10
"""Minimum words for lingua. It may assign shorter headlines, which are mostly names and numbers, to any
language."""

_MIN_WORDS_WITH_EVIDENCE = 5
"""Minimum words for lingua if exactly one of them is a word of another language."""

_MIN_WORDS_FOR_DOUBT = 3
"""Minimum words for doubting English, because lingua cannot classify one or two words such as "lol"."""

_MIN_SMALL_WORDS = 2
"""Minimum number of lower-case words for doubting English. A single one is weak evidence: in "Twitter bans
Trump", it is "bans", which is also Norwegian."""

_MIN_LETTERS = 3
"""Minimum letters of a word that lingua can classify, because its models consist of trigrams."""

_MIN_CONFIDENCE = 0.02
"""Minimum confidence that lower-case words are English; 95% of the English headlines without a listed word
have a higher one."""

_MASKED = re.compile(r"(?:https?://|www\.)\S+|[$#@]\s?\w+|\b(?:URL|AT_USER)\b")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def document_language(stated: str | None, text: str) -> str | None:
    """Return the ISO 639-1 code that the source states, or otherwise the detected one.

    The result is None for a text without words.

    >>> document_language(None, "Acme Q2 net loss at Rs 10.4 crore")
    'en'
    >>> document_language(None, "Aktie von Acme steigt nach den Zahlen auf ein neues Hoch")
    'de'
    """
    if stated is not None:
        return stated
    spelled = _WORD.findall(_MASKED.sub(" ", text[:_MAX_CHARACTERS]))
    words = [word.lower() for word in spelled]
    if not words:
        return SUPPORTED if _WORD.search(text) else None  # tickers and links alone
    is_short = len(words) < _MIN_WORDS
    english, others, shared = word_list("english"), word_list("other_languages"), word_list("shared")
    num_english = sum(word in english and not (is_short and word in shared) for word in words)
    num_others = sum(word in others or not word.isascii() for word in words)
    if num_english >= max(num_others, 1):
        return SUPPORTED
    is_weak = num_others == 1 and len(words) < _MIN_WORDS_WITH_EVIDENCE and text.isascii()
    if (is_weak or (is_short and num_others == 0)) and not _is_foreign(spelled):
        return SUPPORTED  # "Infosys Q2 PAT zooms", "Den Networks rallies"
    return detect_language(text[:_MAX_CHARACTERS]) or SUPPORTED


def _is_foreign(words: list[str]) -> bool:
    """Return whether the lower-case words are unlikely to be English.

    Names are left out, because lingua may assign them to any language.
    """
    small = [word for word in words if word.islower() and len(word) >= _MIN_LETTERS]
    common, headlines, shared = word_list("common"), word_list("headlines"), word_list("shared")
    if any((word in common or word in headlines) and word not in shared for word in small):
        return False
    is_enough = len(small) >= _MIN_SMALL_WORDS and len(words) >= _MIN_WORDS_FOR_DOUBT
    return is_enough and language_confidence(" ".join(small), SUPPORTED) < _MIN_CONFIDENCE
