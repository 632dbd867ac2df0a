"""Repairs the output of a model: removes chat noise, markup, repeated sentences and an incomplete ending.

These are pure functions. They report what they changed, because readers of the text should know.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from jobs.text.plain import unescape, without_markup
from jobs.text.prose import is_complete, split_sentences, words
from jobs.text.thoughts import DEFAULT_MARKS

MAX_RESEMBLANCE = 0.7
"""Resemblance above which two sentences count as the same: the Jaccard similarity of their word sets
("resemblance" in Broder 1997, section 2). It was chosen from the example texts, where rewordings in a loop
have 0.7 to 1, and different sentences less than 0.5."""

MIN_WORDS_TO_COMPARE = 4
"""Minimum number of words for comparing sentences by resemblance. Different shorter sentences ("It works.")
are often similar, so they are dropped only if their words are equal."""

MAX_COMPARED = 500
"""Maximum number of earlier sentences that a sentence is compared with, among those that share a rare word
with it. Normal texts have fewer. In a text that was made to slow down the comparison, those that share the
most rare words are compared."""

_TAG = re.compile(r"<[A-Za-z!/?][^>]*>?")
_LINK = re.compile(r"!?\[([^\[\]]*+)\]\((?:[^()\n]{1,2000}+|\([^()\n]{0,200}+\)){0,10}+\)")
_PLACEHOLDER = re.compile(
    r"\[(?:your|insert|add|name|company|date|title|author|city|link)\b[^\[\]]*+\]", re.IGNORECASE
)
_OPENING = re.compile(
    r"^\s*(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great)[.:!,]\s*"
    r"|^\s*(?:here(?:'s| is| are)|below is|this is)\b[^.:\n]{0,160}"
    r"\b(?:article|paragraphs?|text|version|draft|example|post|sentences?)\b[^.:\n]{0,120}:\s*",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"^(?:i hope (?:this|that|you)|let me know|feel free to|please let me|i(?:'m| am) here to help"
    r"|if you (?:have any|need any|would like)|is there anything|word count|note:|\(?\d+ words\)?|\d+[.)]$"
    r"|i(?:'ve| have)? (?:made|added|changed|removed|also)\b|best regards|sincerely|the end\b"
    r"|remember to cite|mention(?:ing|s)?\b)"
    r"|\b(?:this|the|my) (?:(?:next|last|first|second|final|previous|following|above|revised) )?"
    r"(?:paragraph|sentence|text|article|rewrite|phrase|prompt)s?\b"
    r"|\bin one paragraph\b|\boriginal text\b"
    r"|^(?:in an? [\w -]{3,40} tone, )?explain\b|^write (?:a|an|the|in)\b",
    re.IGNORECASE,
)
"""Matches sentences that address the person who requested the text, or that are about the text itself."""

_LABEL = re.compile(
    r"^\s*\**(?:title|topic|introduction|intro|conclusion|body|article|paragraph \d+|summary|answer|a|q)"
    r"\**\s*:\**\s*",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^\s*+(?:#{1,6}+\s++(?P<hash>\S.*+)|\*\*(?P<bold>[^*]{3,80}+)\*\*:?\s*+)$")
_BULLET = re.compile(r"^\s*+[*•–·-]\s++(?=\S)")
_ITEM = re.compile(r"- |\d{1,2}\. ")
_HEADING_EDGES = ' *:"“”'
_NUMBERED = re.compile(r"^\s*+(\d{1,2}+)[.)]\s++(?=\S)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A model's answer after repair, with what was removed from it."""

    blocks: tuple[str, ...] = ()
    """Paragraphs, list items and `##` headings; may be empty."""
    heading: str | None = None
    """Heading that was removed from the beginning of the text, if any."""
    cut_sentence: str | None = None
    """Incomplete last sentence that was removed, if any."""
    num_noise: int = 0
    """Number of sentences that were removed because they were about the text, or addressed the person who
    requested it."""
    is_html_sanitised: bool = False
    """Whether markup was removed."""


def clean(text: str) -> Piece:
    """Repair one answer of a model.

    >>> clean("Sure! Here is the article:\\n\\nBread needs time. It also nee").blocks
    ('Bread needs time.',)
    """
    # Thoughts are removed before HTML. Their marks are tags, and if only the tags were removed, the thoughts
    # would remain as text.
    text, _ = DEFAULT_MARKS.answer(text)
    text, is_html_sanitised = strip_html(text)
    blocks, num_noise = _without_noise(_blocks(_LINK.sub(r"\1", text.replace("\r\n", "\n"))))
    heading = None
    if blocks and (match := _HEADING.match(blocks[0])):
        heading = _heading_text(match)
        blocks = blocks[1:]
    blocks, cut_sentence = _mend_ending([_normal_block(block) for block in blocks])
    while blocks and blocks[-1].startswith("#"):
        blocks.pop()
    return Piece(tuple(blocks), heading, cut_sentence, num_noise, is_html_sanitised)


def without_repeats(blocks: Iterable[str]) -> tuple[list[str], int]:
    """Drop sentences that repeat an earlier one; return the remaining blocks and the number dropped.

    >>> without_repeats(["It takes two days.", "It takes two days. It pays."])
    (['It takes two days.', 'It pays.'], 1)
    """
    sentences = [[(each, frozenset(words(each))) for each in split_sentences(block)] for block in blocks]
    earlier = _Earlier(Counter(word for block in sentences for _, key in block for word in key))
    kept_blocks: list[str] = []
    num_removed = 0
    for block in sentences:
        kept = []
        for sentence, key in block:
            if key and earlier.has_repeat(key):
                num_removed += 1
            else:
                earlier.add(key)
                kept.append(sentence)
        if words(text := " ".join(kept)):
            kept_blocks.append(text)
    return kept_blocks, num_removed


def as_markdown(blocks: Iterable[str]) -> str:
    """Return the blocks as Markdown, with a blank line between them except between items of a list.

    >>> as_markdown(["Two things:", "- time", "- salt", "No more."])
    'Two things:\\n\\n- time\\n- salt\\n\\nNo more.'
    """
    text = ""
    previous_is_item = False
    for block in blocks:
        is_item = _ITEM.match(block) is not None
        gap = "" if not text else "\n" if is_item and previous_is_item else "\n\n"
        text += gap + block
        previous_is_item = is_item
    return text


def strip_html(text: str) -> tuple[str, bool]:
    """Remove all HTML, including the content of scripts; return the text, and whether there was any HTML.

    >>> strip_html('Fish <b>&amp; chips</b><script>run(1)</script> cost < 9')
    ('Fish & chips cost < 9', True)
    """
    if not _TAG.search(text):
        return text, False
    # nh3 returns HTML, so entities are unescaped. This may reveal escaped tags, so the steps are repeated.
    for _ in range(_MAX_HTML_ROUNDS):
        text = unescape(without_markup(text))
        if not _TAG.search(text):
            return text, True
    return text.replace("<", ""), True


_MAX_HTML_ROUNDS = 3


def _blocks(text: str) -> list[str]:
    """Split a text into paragraphs, list items and headings."""
    blocks: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped or set(stripped) <= set("-*_= "):
            blocks.append("")
        elif (
            _HEADING.match(line)
            or _BULLET.match(line)
            or _NUMBERED.match(line)
            or not blocks
            or not blocks[-1]
        ) or _HEADING.match(blocks[-1]):
            blocks.append(stripped)
        else:
            blocks[-1] += " " + stripped
    return [block for block in blocks if block]


def _without_noise(blocks: list[str]) -> tuple[list[str], int]:
    kept = []
    num_noise = 0
    for position, block in enumerate(blocks):
        if position == 0:
            block = _OPENING.sub("", _OPENING.sub("", block))
        if match := _LABEL.match(block):
            is_title = "title" in match.group().lower()
            block = ("# " if is_title else "") + block[match.end() :].strip('*" ')
        sentences = split_sentences(block)
        wanted = [s for s in sentences if not _CHATTER.search(s) and not _PLACEHOLDER.search(s)]
        num_noise += len(sentences) - len(wanted)
        if wanted:
            kept.append(" ".join(wanted))
    return kept, num_noise


def _normal_block(block: str) -> str:
    if match := _HEADING.match(block):
        return f"## {_heading_text(match)}"
    block = _BULLET.sub("- ", block)
    block = _NUMBERED.sub(r"\1. ", block)
    block = re.sub(r"[ \t]{2,}", " ", block)
    return _without_stray_quotes(block)


def _heading_text(match: re.Match[str]) -> str:
    text: str = match["bold"] or match["hash"].rstrip().rstrip("#").rstrip()
    return text.strip(_HEADING_EDGES)


def _without_stray_quotes(block: str) -> str:
    """Remove an unpaired quotation mark at either end of a paragraph. Models sometimes add one."""
    if block.count('"') % 2 == 1:
        block = block[1:] if block.startswith('"') else block.removesuffix('"')
    return block.strip()


def _mend_ending(blocks: list[str]) -> tuple[list[str], str | None]:
    """Remove an incomplete last sentence, even if nothing remains; return the blocks and that sentence."""
    if not blocks or blocks[-1].startswith("#") or is_complete(blocks[-1]):
        return blocks, None
    *head, last = blocks
    *whole, cut = split_sentences(last)
    return ([*head, " ".join(whole)] if whole else head), cut


class _Earlier:
    """An index of the sentences kept so far, as sets of words, by their rarest words.

    Two sets that share more than a given part of their union share a word that is among the rarest of both
    ("prefix filtering", Bayardo et al. 2007), and neither has many words that are rarer than this one
    ("positional filtering", Xiao et al. 2008). A set is therefore compared with a few others, not with all.
    """

    def __init__(self, frequencies: Mapping[str, int]) -> None:
        self._frequencies = frequencies
        self._seen: set[frozenset[str]] = set()
        self._places: dict[str, dict[tuple[int, int], deque[frozenset[str]]]] = {}
        """For each word, the sets that contain it, by their size and by their number of rarer words."""

    def add(self, key: frozenset[str]) -> None:
        self._seen.add(key)
        if len(key) < MIN_WORDS_TO_COMPARE:
            return
        for num_rarer, word in enumerate(self._rarest(key)):
            places = self._places.setdefault(word, {})
            places.setdefault((len(key), num_rarer), deque(maxlen=MAX_COMPARED)).append(key)

    def has_repeat(self, key: frozenset[str]) -> bool:
        """Return whether a set was added before that equals or resembles this one."""
        if key in self._seen:
            return True
        if len(key) < MIN_WORDS_TO_COMPARE:
            return False
        num_shared: Counter[frozenset[str]] = Counter()
        for num_rarer, word in enumerate(self._rarest(key)):
            num_shared.update(islice(self._that_may_resemble(word, len(key), num_rarer), MAX_COMPARED))
        others = list(num_shared)
        if len(others) > MAX_COMPARED:
            others = [other for other, _ in num_shared.most_common(MAX_COMPARED)]
        return any(_is_over(len(key & other), len(key), len(other)) for other in others)

    def _that_may_resemble(self, word: str, size: int, num_rarer: int) -> Iterator[frozenset[str]]:
        """Yield the sets with this word that may resemble a set of `size` words.

        `word` must be the rarest word that both sets contain. The set of `size` words contains `num_rarer`
        words that are rarer.
        """
        for (other_size, other_rarer), keys in self._places.get(word, {}).items():
            if _is_over(min(size - num_rarer, other_size - other_rarer), size, other_size):
                yield from keys

    def _rarest(self, key: frozenset[str]) -> list[str]:
        """Return enough of the set's rarest words that every similar set contains at least one of them."""
        ordered = sorted(key, key=lambda word: (self._frequencies[word], word))
        return ordered[: len(key) - int(MAX_RESEMBLANCE * len(key))]


def _is_over(num_shared: int, size: int, other_size: int) -> bool:
    """Return whether two sets of these sizes with `num_shared` common words exceed MAX_RESEMBLANCE."""
    return num_shared > MAX_RESEMBLANCE * (size + other_size - num_shared)
