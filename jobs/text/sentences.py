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

_END = re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s|$)|[。！？]++[」』”]*+""")
"""Only the first of a run of full stops is a beginning: else the run is read once for each of them."""
_WORD = re.compile(r"[^\W_]++(?:['’.\-][^\W_]++)*+")
_NEAR = 100
"""Characters on either side that decide whether a sentence ends; they bound the time a text can take."""
_CLOSED = re.compile(r"""[.!?…。！？]["'”’»)\]*_」』]*+$""")


def split_sentences(text: str) -> list[str]:
    """Split one paragraph into its sentences; joined with spaces they give the paragraph again.

    >>> split_sentences('Dr. Lee ran 3.5 km. "Well done!" he said. It rained')
    ['Dr. Lee ran 3.5 km.', '"Well done!" he said.', 'It rained']
    """
    return [text[begin:end] for begin, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of one paragraph begin and end, without the spaces around them.

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
