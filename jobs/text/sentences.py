"""Where sentences and words end, by rules; enough for repair and measurement of prose."""

from __future__ import annotations

import re

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
"""A full stop after these ends no sentence; without its last full stop, in lower case."""

_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s|$)|[。！？]+[」』”]*""")
_WORD = re.compile(r"[^\W_]+(?:['’.\-][^\W_]+)*")
_CLOSED = re.compile(r"""[.!?…。！？]["'”’»)\]*_」』]*$""")


def split_sentences(text: str) -> list[str]:
    """Split one paragraph into its sentences; joined with spaces they give the paragraph again.

    >>> split_sentences('Dr. Lee ran 3.5 km. "Well done!" he said. It rained')
    ['Dr. Lee ran 3.5 km.', '"Well done!" he said.', 'It rained']
    """
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if _ends_sentence(text, start, end):
            sentences.append(text[start : end.end()].strip())
            start = end.end()
    rest = text[start:].strip()
    return [sentence for sentence in (*sentences, rest) if sentence]


def is_complete(sentence: str) -> bool:
    """Whether the text ends as a sentence does.

    >>> is_complete('It rained.”'), is_complete("It rai")
    (True, False)
    """
    return _CLOSED.search(sentence.rstrip()) is not None


def words(text: str) -> list[str]:
    """The words of a text, lower case, punctuation left out; each CJK run counts as one.

    >>> words("It's 3.5 km, well-known!")
    ["it's", '3.5', 'km', 'well-known']
    """
    return [match.group().lower() for match in _WORD.finditer(text)]


def _ends_sentence(text: str, start: int, end: re.Match[str]) -> bool:
    following = text[end.end() :].lstrip()
    if following and following[0].islower():
        return False
    if not end.group().startswith(".") or end.group().startswith(".."):
        return True
    before = text[start : end.start()].split()
    last = before[-1].lstrip("(\"'“‘").lower() if before else ""
    is_initial = len(last) == 1 and last.isalpha() and last not in "i"
    is_number_of_list = last.isdigit() and len(before) == 1
    return not (last in _ABBREVIATIONS or is_initial or is_number_of_list)
