"""The spellings under which texts mention an entity, derived from its name and aliases."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from kinds.sentiment.documents.common_words import is_common
from kinds.sentiment.documents.watchlist import Entity, EntityKind

_FORM = (
    r"(?:inc|incorporated|corp|corporation|co|company|ltd|limited|plc|llc|llp|lp|sa|s\.a|ag|nv|n\.v|se|spa|s\.p\.a|ab"
    r"|asa|oyj|gmbh|kgaa|bv|pvt|private|pte|bhd|tbk|& co)"
)
_LEGAL_FORM = re.compile(rf"(?:(?:,|(?<![\s,]))\s++{_FORM}\.?){{1,6}}\s*+$", re.IGNORECASE)
"""Legal forms of companies, which headlines leave out; "Group" and "Holdings" are parts of names."""

FOLLOWING_FORM = re.compile(rf"(?:,|(?<!\s))\s++(?:{_FORM}|shares?|stock)\b", re.IGNORECASE)
"""Words that mark an English word before them as a company: "Target Corp", "Gap shares"."""

_ARTICLE = re.compile(r"^the\s+", re.IGNORECASE)
_INITIALS = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]\.){2,}")
_SPACE = re.compile(r"\s+")
_MAX_SHORT = 3
"""Maximum letters of a spelling that is matched in capitals only: "SBI", "GE", "TCS". For topics this holds
only for spellings that are also words ("IT", "US"), so that "ipo" is the same as "IPO"."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write an entity."""

    text: str
    """The spelling folded: lower case, without accents, with plain apostrophes and hyphens."""
    entity: int
    """Position of the entity in the watch list."""
    written: str
    is_common: bool
    """Consists of English words only; counts where capital letters or other evidence mark it as a name."""
    is_cased: bool
    """Matches only in the case of `written`."""
    is_derived: bool
    """Derived from a name in the watch list; ignored if another entity lists it as its own."""


def spellings(index: int, entity: Entity) -> list[Spelling]:
    """Return all spellings of an entity, without its tickers."""
    found: dict[str, Spelling] = {}
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
            found.setdefault(spelling.text, spelling)
    return list(found.values())


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
