"""Finds all places where a text mentions entities of a watch list, and determines how certain each is.

The spellings of an entity are derived from its name and aliases.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import ahocorasick

from jobs.documents.document import normal_ticker
from kinds.sentiment.documents.language import is_common
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist

_FORM = (
    r"(?:inc|incorporated|corp|corporation|co|company|ltd|limited|plc|llc|llp|lp|sa|s\.a|ag|nv|n\.v|se|spa|s\.p\.a|ab"
    r"|asa|oyj|gmbh|kgaa|bv|pvt|private|pte|bhd|tbk|& co)"
)
_LEGAL_FORM = re.compile(rf"(?:(?:,|(?<![\s,]))\s++{_FORM}\.?){{1,6}}\s*+$", re.IGNORECASE)
"""Legal forms at the end of company names, which headlines leave out. "Group" and "Holdings" are not
included, because they are parts of names."""

FOLLOWING_FORM = re.compile(rf"(?:,|(?<!\s))\s++(?:{_FORM}|shares?|stock)\b", re.IGNORECASE)
"""Words that show that the English word before them names a company: "Target Corp", "Gap shares"."""

_ARTICLE = re.compile(r"^the\s+", re.IGNORECASE)
_INITIALS = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]\.){2,}")
_SPACE = re.compile(r"\s+")
_MAX_SHORT = 3
"""Maximum letters of a spelling that is matched in capitals only, such as "SBI", "GE" or "TCS". For topics
this applies only to spellings that are also words ("IT", "US"), so "ipo" matches like "IPO"."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write the name of an entity."""

    text: str
    """The folded spelling: in lower case, without accents, with plain apostrophes and hyphens."""
    entity: int
    """Position of the entity in the watch list."""
    written: str
    is_common: bool
    """Whether the spelling consists of common words only. It then counts only if capitals or other evidence
    show that it is a name."""
    is_cased: bool
    """Whether the spelling matches only in the letter case of `written`."""
    is_derived: bool
    """Whether the spelling is derived from a name in the watch list. It is ignored if another entity lists
    the same spelling."""


def spellings(index: int, entity: Entity) -> list[Spelling]:
    """Return all spellings of an entity, without its tickers."""
    by_text: dict[str, Spelling] = {}
    is_company = entity.kind is EntityKind.COMPANY
    names = [_SPACE.sub(" ", name.strip()) for name in (entity.name, *entity.aliases)]
    derived = [variant for name in names for variant in _variants(name, entity.kind)]
    for place, written in enumerate((*names, *derived)):
        capitals = written.removesuffix("s") if place >= len(names) else written
        is_short = len(capitals) <= _MAX_SHORT and capitals.isupper()
        spelling = Spelling(
            text=fold(written),
            entity=index,
            written=written,
            is_common=is_company and all(is_common(word) for word in written.split()),
            is_cased=is_short and (is_company or is_common(capitals.lower())),
            is_derived=place >= len(names),
        )
        if spelling.text:
            by_text.setdefault(spelling.text, spelling)
    return list(by_text.values())


def fold(text: str) -> str:
    """Return the text folded for matching spellings; each character keeps its position.

    >>> fold("Nestlé’s “A–B”")
    'nestle\\'s "a-b"'
    """
    if text.isascii():
        return text.lower()
    lowered = text.lower()
    if len(lowered) != len(text):  # some capitals become two characters
        lowered = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return lowered.translate(_plain_characters())


@cache
def _plain_characters() -> dict[int, str]:
    plain = {0x2018: "'", 0x2019: "'", 0x02BC: "'", 0x201C: '"', 0x201D: '"', 0xA0: " ", 0x2009: " "}
    plain |= dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), "-")
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00)):
        base = unicodedata.normalize("NFD", chr(code))[0]
        if base.isascii():
            plain[code] = base.lower()
    return plain


def _variants(name: str, kind: EntityKind) -> Iterator[str]:
    names = [name]
    if kind is EntityKind.COMPANY:
        names.append(_LEGAL_FORM.sub("", name))
        names.append(_ARTICLE.sub("", names[-1]))
    for written in dict.fromkeys(names):
        if not written:
            continue
        if written != name:
            yield written
        if " & " in written:
            yield written.replace(" & ", " and ")
            yield written.replace(" & ", "&")
        if " and " in written:
            yield written.replace(" and ", " & ")
        if "-" in written:
            yield written.replace("-", " ")
        if _INITIALS.search(written):
            yield _INITIALS.sub(lambda match: match.group().replace(".", ""), written)
        if kind is EntityKind.TOPIC and written[-1:].isalpha() and not written.endswith("s"):
            yield written + "s"


_MASKED = re.compile(r"(?:https?://|www\.)\S+|\b[\w.+-]{1,64}@[\w-]+\.[\w.]+|\b(?:AT_USER|URL)\b")
"""Links, e-mail addresses and placeholders; a name in one of these is not a mention."""

_CASHTAG = re.compile(r"(?<![\w$])\$( ?)([A-Za-z]{1,6}(?:[.-][A-Za-z]{1,2})?)(?![\w$])")
_EXCHANGE = (
    r"NYSE(?: ?Arca| ?American)?|NASDAQ(?:GS|GM|CM)?|AMEX|LSE|LON|NSE|BSE|TSX(?:V)?|ASX|HKEX|HKG|SEHK|SGX|ETR"
    r"|XETRA|FRA|EPA|BIT|BME|TYO|TSE|SIX|SWX|OTC(?:MKTS|QB|QX)?|CBOE"
)
_LISTING = re.compile(rf"\b(?i:{_EXCHANGE})\s?:\s?([A-Z0-9][A-Z0-9.&-]{{0,11}})(?![\w])")
_CAPITALS = re.compile(r"(?<![\w$.&'’-])[A-Z][A-Z0-9&]{1,9}(?:[.-][A-Z]{1,2})?(?![\w&])")
_DOMAIN = re.compile(r"\.(?:com|net|org|io|co|in|ai|uk|de)\b")
_NEAR = 300
"""Characters on either side of a name that are examined to see how its sentence is capitalized."""

_MIN_WORDS_OF_CASE = 2
_TITLE_CASE = 0.7
"""Share of capitalized words among the other words of a sentence, above which a capital letter is no evidence
of a name."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a text that names an entity."""

    start: int
    end: int
    entities: tuple[int, ...]
    """Positions in the watch list; several if the entities share the spelling."""
    is_weak: bool
    """Whether the spelling could be an ordinary word here, because capitals do not show that it is a name."""


class Finder:
    """Finds every spelling and ticker of a watch list in one pass. Any thread may call it."""

    def __init__(self, watchlist: Watchlist) -> None:
        by_text: dict[str, list[Spelling]] = {}
        self._tickers: dict[str, tuple[int, ...]] = {}
        for index, entity in enumerate(watchlist.entities):
            for spelling in spellings(index, entity):
                by_text.setdefault(spelling.text, []).append(spelling)
            for ticker in entity.tickers:
                key = normal_ticker(ticker)
                self._tickers[key] = tuple(dict.fromkeys((*self._tickers.get(key, ()), index)))
        self._automaton = ahocorasick.Automaton()
        for text, owners in by_text.items():
            if not all(owner.is_derived for owner in owners):
                owners[:] = [owner for owner in owners if not owner.is_derived]
            self._automaton.add_word(text, (len(text), tuple(owners)))
        if by_text:
            self._automaton.make_automaton()
        self.shared = {
            text: tuple(spelling.entity for spelling in owners)
            for text, owners in by_text.items()
            if len(owners) > 1
        }
        """Spellings shared by several entities, with their positions in the watch list."""
        self.shared_tickers = {ticker: owners for ticker, owners in self._tickers.items() if len(owners) > 1}

    def with_symbols(self, symbols: Iterable[str]) -> frozenset[int]:
        """Return the positions of the entities with one of these tickers; shared tickers are ignored."""
        owners = (self._tickers.get(symbol, ()) for symbol in symbols)
        return frozenset(each[0] for each in owners if len(each) == 1)

    def places(self, text: str, sentences: Sequence[tuple[int, int]]) -> list[Place]:
        """Return all mentions in order; of overlapping mentions only the longest is returned."""
        cased = _MASKED.sub(lambda match: " " * len(match.group()), text) if _may_mask(text) else text
        return _longest([*self._by_ticker(cased), *self._by_spelling(cased, fold(cased), sentences)])

    def _by_spelling(self, cased: str, folded: str, sentences: Sequence[tuple[int, int]]) -> Iterator[Place]:
        has_case = cased != folded
        # A spelling may contain a newline in place of a space, but not the end of a paragraph.
        haystack = folded.replace("\n\n", "\0\0").replace("\n", " ") if "\n" in folded else folded
        for last, (length, owners) in self._automaton.iter(haystack):
            start, end = last - length + 1, last + 1
            is_plural = haystack[end : end + 1] == "s" and cased[start].isupper()
            if not _is_word(haystack, start, end + is_plural):
                continue
            certain: list[int] = []
            weak: list[int] = []
            for owner in owners:
                if is_plural and owner.is_common:
                    continue
                strength = _strength(owner, cased, start, end, has_case, sentences)
                if strength is not None:
                    (certain if strength else weak).append(owner.entity)
            if entities := tuple(dict.fromkeys((*certain, *weak))):
                yield Place(start, end, entities, not certain)

    def _by_ticker(self, cased: str) -> Iterator[Place]:
        if not self._tickers:
            return
        for match in _CASHTAG.finditer(cased):
            is_loose = bool(match[1]) and (len(match[2]) < 2 or is_common(match[2].lower()))
            entities = () if is_loose else self._tickers.get(match[2].upper(), ())
            if entities:
                yield Place(match.start(), match.end(), entities, False)
        for match in _LISTING.finditer(cased):
            if entities := self._tickers.get(match[1].rstrip(".-"), ()):
                yield Place(match.start(1), match.end(1), entities, False)
        if cased.isupper():
            return  # capitals are no evidence in a text that is all capitals
        for match in _CAPITALS.finditer(cased):
            entities = self._tickers.get(match.group(), ())
            if entities and not is_common(match.group()):
                yield Place(match.start(), match.end(), entities, False)


def _may_mask(text: str) -> bool:
    return "://" in text or "@" in text or "www." in text or "URL" in text or "AT_USER" in text


def _is_word(text: str, start: int, end: int) -> bool:
    """Return whether the span is a whole word: "Acme" is one in "Acme's" and "#Acme", but not in "Acmex"."""
    if start:
        before = text[start - 1]
        if (before.isalnum() and text[start].isalnum()) or before == "_":
            return False
        if before in "-&" and start > 1 and text[start - 2].isalnum():
            return False
    if end < len(text):
        after = text[end]
        if (after.isalnum() and text[end - 1].isalnum()) or after == "_":
            return False
        if after == "&" and end + 1 < len(text) and text[end + 1].isalnum():
            return False
        if after == "." and _DOMAIN.match(text, end):
            return False
    return True


def _strength(
    spelling: Spelling, cased: str, start: int, end: int, has_case: bool, sentences: Sequence[tuple[int, int]]
) -> bool | None:
    """Return True if the span is certainly the name, False if the evidence is weak, None if it is no name."""
    if spelling.is_cased:
        return (cased[start:end] == spelling.written) or (None if has_case else False)
    if not spelling.is_common:
        return True
    if FOLLOWING_FORM.match(cased, end):
        return True
    if not has_case:
        return False
    written = zip(spelling.written, cased[start:end], strict=False)
    if any(name.isupper() and not letter.isupper() for name, letter in written):
        return None
    return not _is_case_no_evidence(cased, start, end, sentences)


def _is_case_no_evidence(cased: str, start: int, end: int, sentences: Sequence[tuple[int, int]]) -> bool:
    """Return whether a capital letter is no evidence of a name, because any word would have one here."""
    begin, stop = 0, len(cased)
    if sentences:
        begin, stop = sentences[max(bisect_right(sentences, start, key=lambda span: span[0]) - 1, 0)]
    if not cased[max(begin, start - _NEAR) : start].strip(" \"'“‘(#@") and " " not in cased[start:end]:
        return True  # "Best Buy cuts" has a second capital, "Best buys" does not
    others = [
        word
        for word in (cased[max(begin, start - _NEAR) : start] + cased[end : min(stop, end + _NEAR)]).split()
        if len(word) > 3
    ]
    others = [word for word in others if word[0].isalpha()]
    num_capitals = sum(word[0].isupper() for word in others)
    return len(others) < _MIN_WORDS_OF_CASE or num_capitals > _TITLE_CASE * len(others)


def _longest(places: list[Place]) -> list[Place]:
    if len(places) < 2:
        return places
    chosen: list[Place] = []
    occupied: set[int] = set()
    for place in sorted(places, key=lambda place: (place.start - place.end, place.start, place.is_weak)):
        span = range(place.start, place.end)
        if occupied.isdisjoint(span):
            occupied.update(span)
            chosen.append(place)
    return sorted(chosen, key=lambda place: place.start)
