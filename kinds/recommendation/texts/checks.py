"""Whether a text says only what the rows of its items say.

Values of the rows are found first, as whole phrases; every word between them must be of a closed vocabulary
that says nothing of an item. A value must be one of the item that its sentence names. In doubt a text is
refused: what is refused costs a try, what is wrong costs the reader's trust.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.guards import find_control_token
from jobs.text.sentences import is_complete, split_sentences
from kinds.recommendation.texts.facts import MARKUP, CopyFacts, has_word, short_name
from kinds.recommendation.texts.policy import (
    MAX_BLURB_CHARACTERS,
    MAX_HEADLINE_CHARACTERS,
    MAX_REASON_CHARACTERS,
)
from kinds.recommendation.texts.words import (
    BECAUSE,
    CLAIMS,
    COUNTED,
    GROUPS,
    NEVER_OF,
    NUMBER_WORDS,
    ONLY_OF,
    PRICES,
    TITLE,
    WORDS,
)

LIMITS = {
    "headline": MAX_HEADLINE_CHARACTERS,
    "blurb": MAX_BLURB_CHARACTERS,
    "reason": MAX_REASON_CHARACTERS,
}

_BLANK = "□"
_OPEN, _CLOSE = "\ue000", "\ue001"
_MENTION = re.compile(f"{_OPEN}(\\d+){_CLOSE}(?:['’]s)?")
_RESERVED = re.compile(f"[\ue000-\uf8ff{_BLANK}]")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SIGNS = re.compile(rf"[\w\s{_BLANK},.!?:()'’&…–—-]*", re.ASCII)
_ARTICLES = re.compile(r"(?:(?:^|\s+)(?:a|an|the|our|this|these|those|its))*[\s:,(]*$", re.IGNORECASE)
_NEAR = 200
"""Characters before a phrase in which its article stands; the search begins anew at each of them."""
_AS_MATERIAL = re.compile(r"\b(?:in|is|are)\s+$", re.IGNORECASE)
"""Without an article a group of one is read as what an item is made of: "comes in glass"."""
_IT = re.compile(r"(?:it|its)\b", re.IGNORECASE)
_PRONOUN = re.compile(r"(?:its?|they)\b", re.IGNORECASE)
_THEY = re.compile(r"they cost\b", re.IGNORECASE)
_ARE = re.compile(r"\b(?:are|come)\b", re.IGNORECASE)
_IDENTITY = re.compile(rf"\b(?:is|are|be|called|named)\b|[:,(–—-]\s*(?:a|an|the|our)\b|{_BLANK}\s*{_BLANK}")


@dataclass(frozen=True, slots=True)
class _Owner:
    """Where a phrase stands in the facts."""

    item: int | None
    """None for what the reason goes by."""
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class _Mention:
    """A value in a sentence."""

    phrase: str
    owners: tuple[_Owner, ...]
    """Those that the words before it allow."""

    @property
    def titled(self) -> frozenset[int]:
        """The items that it names: more than one where they share a title."""
        return frozenset(o.item for o in self.owners if o.field == TITLE and o.item is not None)

    @property
    def is_because(self) -> bool:
        """Whether it can be nothing but what the reason goes by."""
        return all(owner.field == BECAUSE for owner in self.owners)

    def is_of(self, item: int) -> bool:
        """Whether the item's row says so."""
        return any(owner.item == item for owner in self.owners)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    """With a blank for each value."""
    mentions: tuple[_Mention, ...]

    @property
    def named(self) -> list[frozenset[int]]:
        """The items that it names, by each mention."""
        return [mention.titled for mention in self.mentions if mention.titled]


class CopyCheck:
    """The facts of one text, ready to check what is written of them."""

    def __init__(self, facts: CopyFacts, forbidden: tuple[str, ...] = ()) -> None:
        self._facts = facts
        self._forbidden = forbidden
        self._owners: dict[str, list[_Owner]] = {}
        self._said: set[str] = set()
        for number, item in enumerate(facts.items):
            if item.title is not None:
                for title in {item.title, item.name or item.title}:
                    self._own(title, _Owner(number, TITLE, item.title))
            for fact in item.facts:
                for spelling in fact.spellings:
                    self._own(spelling, _Owner(number, fact.field, fact.value))
        if facts.because is not None:
            for spelling in {facts.because, short_name(facts.because)}:
                self._own(spelling, _Owner(None, BECAUSE, facts.because))
        longest_first = sorted(self._said, key=len, reverse=True)
        phrases = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._phrases = re.compile(rf"(?<![\w-])(?<!\d[.,])(?:{phrases})(?![\w-])(?![.,]\d)", re.IGNORECASE)

    def _own(self, phrase: str, owner: _Owner) -> None:
        self._said.add(phrase)
        self._owners.setdefault(phrase.casefold(), []).append(owner)

    def find_fault(self, part: str, text: str) -> str | None:
        """Why a headline, blurb or reason cannot stand, in stable words; None if it can."""
        fault = self._shape_fault(part, text)
        if fault is not None:
            return fault
        sentences = self.sentences(text)
        before: _Sentence | None = None
        for sentence in sentences:
            fault = self._sentence_fault(part, sentence, before)
            if fault is not None:
                return fault
            before = sentence
        return self._whole_fault(part, sentences)

    def _shape_fault(self, part: str, text: str) -> str | None:
        if not text.strip():
            return "empty"
        if len(text) > LIMITS[part]:
            return "too long"
        if (
            find_control_token(text)
            or MARKUP.search(text)
            or _RESERVED.search(text)
            or not text.isprintable()
        ):
            return "markup"
        if has_word(text, self._forbidden):
            return "forbidden word"
        if CLAIMS.search(text):
            return "claim"
        return None

    def sentences(self, text: str) -> tuple[_Sentence, ...]:
        """The text's sentences, with what each mentions."""
        found: list[tuple[str, tuple[_Owner, ...]]] = []

        def mask(match: re.Match[str]) -> str:
            owners = self._owners.get(match.group().casefold())
            if owners is None:  # letters that fold otherwise than they compare
                return match.group()
            found.append((match.group().casefold(), tuple(owners)))
            return f"{_OPEN}{len(found) - 1}{_CLOSE}"

        masked = self._phrases.sub(mask, text)
        parts = (one for whole in split_sentences(masked) for one in whole.split(";") if one.strip())
        return tuple(_sentence(one.strip(), found) for one in parts)

    def _sentence_fault(self, part: str, sentence: _Sentence, before: _Sentence | None) -> str | None:
        if part != "headline" and not is_complete(sentence.text):
            return "incomplete"
        return (
            self._word_fault(part, sentence) or _mention_fault(sentence) or self._fact_fault(sentence, before)
        )

    def _word_fault(self, part: str, sentence: _Sentence) -> str | None:
        if not _SIGNS.fullmatch(sentence.text):
            return "sign"
        for match in _WORD.finditer(sentence.text):
            word = match.group().replace("’", "'")
            number = NUMBER_WORDS.get(word.lower(), int(word) if word.isdecimal() else None)
            if number is not None:
                is_count = number == len(self._facts.items) and COUNTED.match(sentence.text, match.end())
                if not is_count:
                    return f"number: {word}"
            elif word.lower() not in WORDS:
                return f"word: {word}"
            elif part != "headline" and word[0].isupper() and sentence.text[: match.start()].strip(" (:"):
                return f"name: {word}"
        return None

    def _fact_fault(self, sentence: _Sentence, before: _Sentence | None) -> str | None:
        """Each value must be one of the item that is named; of all of them where several or none are."""
        named = sentence.named
        if not named and before is not None and len(before.named) == 1 and _goes_on(before, sentence):
            named = before.named
        facts = [each for each in sentence.mentions if not each.titled and not each.is_because]
        if named:
            fits = any if sentence.named else all  # "it" goes on with either of two items of one name
            is_true = all(fits(all(f.is_of(i) for f in facts) for i in items) for items in named)
            return None if is_true else "another item's"
        every = range(len(self._facts.items))
        if len(every) > 1 and any(owner.field in PRICES for fact in facts for owner in fact.owners):
            return "whose price"
        return None if all(_covers(facts, item) for item in every) else "another item's"

    def _whole_fault(self, part: str, sentences: Sequence[_Sentence]) -> str | None:
        whole = [each for each in sentences if not _PRONOUN.match(each.text)]
        texts = [(each.text, *(mention.phrase for mention in each.mentions)) for each in whole]
        if len(set(texts)) < len(texts):
            return "repetition"
        named = {frozenset(m.titled) for each in sentences for m in each.mentions if m.titled}
        if part == "blurb" and not named and any(item.title for item in self._facts.items):
            return "names nothing"
        return None


def _sentence(masked: str, found: Sequence[tuple[str, tuple[_Owner, ...]]]) -> _Sentence:
    mentions = []
    for match in _MENTION.finditer(masked):
        phrase, owners = found[int(match[1])]
        before = _MENTION.sub(_BLANK, masked[: match.start()])
        mentions.append(_Mention(phrase, _allowed(owners, before, phrase)))
    return _Sentence(_MENTION.sub(_BLANK, masked), tuple(mentions))


def _allowed(owners: tuple[_Owner, ...], before: str, phrase: str) -> tuple[_Owner, ...]:
    """Those that the words right before the value let it be of."""
    lead = (
        before[: match.start()]
        if (match := _ARTICLES.search(before, max(0, len(before) - _NEAR)))
        else before
    )
    if _AS_MATERIAL.search(before) and (not phrase.endswith("s") or phrase.endswith("ss")):
        owners = tuple(owner for owner in owners if owner.field not in GROUPS)
    for pattern, fields in ONLY_OF:
        if pattern.search(lead):
            return tuple(owner for owner in owners if owner.field in fields)
    for pattern, fields in NEVER_OF:
        if pattern.search(lead):
            return tuple(owner for owner in owners if owner.field not in fields)
    return tuple(owner for owner in owners if owner.field != BECAUSE)


def _mention_fault(sentence: _Sentence) -> str | None:
    mentions = sentence.mentions
    if any(not mention.owners for mention in mentions):
        return "role"
    if len({mention.phrase for mention in mentions}) < len(mentions):
        return "repetition"
    if sum(bool(each.titled) or each.is_because for each in mentions) > 1 and _IDENTITY.search(sentence.text):
        return "identity"
    is_other = False
    for mention in mentions:
        if is_other and not mention.titled and not mention.is_because:
            return "another item's"
        is_other = mention.is_because or (is_other and not mention.titled)
    return None


def _goes_on(before: _Sentence, sentence: _Sentence) -> bool:
    """Whether a sentence that names nothing speaks of what the one before it names: boots are "they"."""
    is_plural = _ARE.search(before.text) and _THEY.match(sentence.text)
    return bool(_IT.match(sentence.text) or is_plural)


def _covers(facts: Sequence[_Mention], item: int) -> bool:
    """Whether the item has, of each field that is spoken of, one of the values: "in green and blue"."""
    fields = {owner.field for fact in facts for owner in fact.owners}
    return all(
        any(owner.item == item and owner.field == field for fact in facts for owner in fact.owners)
        for field in fields
    )
