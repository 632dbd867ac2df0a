"""Splits prose into sentences and words by rules, and measures its length, repetition and relevance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "jr",
        "sr",
        "vs",
        "etc",
        "e.g",
        "i.e",
        "cf",
        "no",
        "vol",
        "fig",
        "approx",
        "u.s",
        "u.k",
        "a.m",
        "p.m",
        "inc",
        "ltd",
        "co",
        "dept",
        "est",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "z.b",
        "d.h",
        "bzw",
        "ca",
        "sra",
    ]
)
"""Abbreviations whose full stop does not end a sentence, in lower case and without the last full stop."""

_END = re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s|$)|[。！？]++[」』”]*+""")
"""Matches what may end a sentence. A run of full stops is matched only from its first full stop. Otherwise,
the run would be read once for each of its full stops."""
_WORD = re.compile(r"[^\W_]++(?:['’.\-][^\W_]++)*+")
_NEAR = 100
"""Number of characters before and after a full stop that decide whether a sentence ends there. The limit
bounds the running time."""
_CLOSED = re.compile(r"""[.!?…。！？]["'”’»)\]*_」』]*+$""")


def split_sentences(text: str) -> list[str]:
    """Split a paragraph into its sentences. Joined with spaces, they form the paragraph again.

    >>> split_sentences('Dr. Lee ran 3.5 km. "Well done!" he said. It rained')
    ['Dr. Lee ran 3.5 km.', '"Well done!" he said.', 'It rained']
    """
    return [text[begin:end] for begin, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and the end of each sentence of a paragraph, without surrounding spaces.

    >>> sentence_spans(" It rained. Again")
    [(1, 11), (12, 17)]
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for end in _END.finditer(text):
        if _ends_sentence(text, start, end):
            spans.append((start, end.end()))
            start = end.end()
    spans.append((start, len(text)))
    stripped = []
    for begin, stop in spans:
        part = text[begin:stop]
        begin += len(part) - len(part.lstrip())
        if bare := part.strip():
            stripped.append((begin, begin + len(bare)))
    return stripped


def is_complete(sentence: str) -> bool:
    """Return whether the text ends like a sentence.

    >>> is_complete('It rained.”'), is_complete("It rai")
    (True, False)
    """
    return _CLOSED.search(sentence.rstrip()) is not None


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation; each run of CJK characters is one word.

    >>> words("It's 3.5 km, well-known!")
    ["it's", '3.5', 'km', 'well-known']
    """
    return [match.group().lower() for match in _WORD.finditer(text)]


def _ends_sentence(text: str, start: int, end: re.Match[str]) -> bool:
    following = text[end.end() : end.end() + _NEAR].lstrip()
    if following and following[0].islower():
        return False
    if not end.group().startswith(".") or end.group().startswith(".."):
        return True
    near = max(start, end.start() - _NEAR)
    before = text[near : end.start()].split()
    last = before[-1].lstrip("(\"'“‘").lower() if before else ""
    is_initial = len(last) == 1 and last.isalpha() and last not in "i"
    is_number_of_list = last.isdigit() and len(before) == 1 and near == start
    return not (last in _ABBREVIATIONS or is_initial or is_number_of_list)


_STEM_CHARACTERS = 5
"""Number of characters to which words are cut. This simple stemming works in any language, and makes
"tomatoes" and "tomato" equal."""
_MIN_CHARACTERS = 4
"""Minimum length of a content word. Shorter words are mostly articles and prepositions in languages that are
written with spaces."""


def names_any(text: str, references: Iterable[str]) -> bool:
    """Return whether the text shares a content word with the references; True if these have no content word.

    >>> names_any("Tomatoes love sun.", ["a ripe tomato"]), names_any("People do tasks.", ["bread"])
    (True, False)
    """
    wanted = _stems(" ".join(references))
    return not wanted or not wanted.isdisjoint(_stems(text))


def _stems(text: str) -> set[str]:
    return {word[:_STEM_CHARACTERS] for word in words(text) if len(word) >= _MIN_CHARACTERS}


LENGTH_TOLERANCE = 0.4
"""Maximum relative deviation from the requested length: the bound that the project promises."""


def relative_length_error(num_words: int, requested_words: int) -> float:
    """Return the signed relative error of a text's length: (actual - requested) / requested.

    >>> relative_length_error(80, 100)
    -0.2
    """
    if requested_words < 1:
        raise ValueError(f"requested_words is {requested_words}; it must be at least 1")
    return (num_words - requested_words) / requested_words


def is_within_length(num_words: int, requested_words: int) -> bool:
    """Return whether a text's length is within LENGTH_TOLERANCE of the requested length.

    >>> is_within_length(140, 100), is_within_length(59, 100)
    (True, False)
    """
    return abs(relative_length_error(num_words, requested_words)) <= LENGTH_TOLERANCE


MAX_REPETITION = 0.1
"""Maximum of seq_rep_n with n = 4 for a text that is not repetitive. It was chosen from the example texts: no
text below it had a loop, and each text above it repeated a sentence or a list (docs/experiments.md)."""


def seq_rep_n(tokens: Sequence[str], n: int = 4) -> float:
    """Return the share of n-grams that occurred before in the same text; 0 for a text shorter than n.

    This is seq-rep-n of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training",
    arXiv:1908.04319, section 6.1: 1 - |unique n-grams| / |n-grams|. It is computed over words, so that it
    does not depend on a tokenizer.

    >>> seq_rep_n("a b c d e".split())
    0.0
    >>> seq_rep_n("a b a b a b".split(), n=2)
    0.6
    """
    num_ngrams = len(tokens) - n + 1
    if num_ngrams < 1:
        return 0.0
    unique = {tuple(tokens[start : start + n]) for start in range(num_ngrams)}
    return 1.0 - len(unique) / num_ngrams
