"""Checks that a text states only what the catalogue rows of its items state.

Values from the rows are found first, as whole phrases. Every word between them must be in a closed vocabulary
of words that state nothing about an item, and a value must belong to the item that its sentence names. If in
doubt, the check refuses the text: a refusal costs one more attempt, while a false statement costs the
reader's trust.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.guards import find_control_token
from jobs.text.prose import is_complete, split_sentences
from kinds.recommendation.texts.facts import (
    BECAUSE,
    GROUPS,
    MAKERS,
    MARKUP,
    MATERIALS,
    PRICES,
    TITLE,
    TextFacts,
    has_word,
    short_name,
)
from kinds.recommendation.texts.text import (
    MAX_BLURB_CHARACTERS,
    MAX_HEADLINE_CHARACTERS,
    MAX_REASON_CHARACTERS,
)

WORDS = frozenset(
    """
    a an the this that these those some our your you we it its they them their here there
    i'd it's here's that's you'll we've
    is are be have has can could may might come comes coming go goes
    made costs cost priced called named shown
    in of by from with for at to and alongside beside together because since so if which
    take look looks see meet find discover explore consider choose chosen choice choices pick picks
    picked select selected selection suggest suggested suggestion suggestions recommend recommended
    recommendation recommendations get check try add enjoy introducing presenting welcome say hello glance
    like think thought bring brings brought put belongs belong
    item items piece pieces thing things list idea ideas one ones name interest shop yours
    simply maybe perhaps please worth closer
    """.split()  # noqa: SIM905 - a list of literals would be unreadable
)

CLAIMS = re.compile(r"\b(?:you(?:['’]ve| have)|(?:our|the|this) shop)\b", re.IGNORECASE)
"""Phrases of allowed words that would nevertheless make a statement about the reader or the shop."""

NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5}

COUNTED = re.compile(
    r"\s+(?:of|for|to|our|picks|items|things|pieces|finds|ideas|choices|suggestions|recommendations|□)",
    re.IGNORECASE,
)
"""Matches what must follow a number that is not in the facts. Such a number is allowed only if it counts the
text's items, as in "three picks"."""

NOTHING: frozenset[str] = frozenset()

ONLY_OF = tuple(
    (re.compile(rf"\b(?:{before})$", re.IGNORECASE), fields)
    for before, fields in (
        (r"made (?:of|from|with)", MATERIALS),
        (r"made in", NOTHING),
        (r"(?:recommended|suggested|picked|selected|shown|chosen|thought|brought|put) by", NOTHING),
        (r"because of|interest in|since", frozenset({BECAUSE})),
        (r"if you like", frozenset({BECAUSE}) | GROUPS),
        (r"(?:may|might|could) like", frozenset({TITLE})),
        (r"(?:look|looks|glance) at|(?:hello|welcome) to", frozenset({TITLE})),
        (r"(?:go|goes|together) with", frozenset({TITLE, BECAUSE})),
        (r"belongs? to", MAKERS | GROUPS),
        (r"by", MAKERS),
        (r"from", MAKERS | GROUPS | {BECAUSE}),
        (r"at|cost|costs|priced at", PRICES),
        (r"for", PRICES),
        (r"of", MATERIALS | GROUPS),
        (r"made|worth|to|like|together|so|if|which|because", NOTHING),
    )
)
"""Fields that a value must belong to, by the words before the value and its article; the first match counts.
"Made of Alder" is wrong for a tent whose brand is Alder, and "from 29 EUR" for a tent that costs 29 EUR."""

NEVER_OF = tuple(
    (re.compile(rf"\b(?:{before})$", re.IGNORECASE), fields)
    for before, fields in (
        (r"in", PRICES | {TITLE, BECAUSE}),
        (r"with", PRICES | GROUPS | MAKERS | {TITLE, BECAUSE}),
    )
)
"""Fields that a value must not belong to: "comes with a mug" is wrong for an item in the category of mugs."""

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
"""Number of characters before a phrase that are searched for its article. Without this limit, every phrase
would cause a search of the whole text before it."""
_AS_MATERIAL = re.compile(r"\b(?:in|is|are)\s+$", re.IGNORECASE)
"""Matches the words before a singular category that is read as a material: "comes in glass"."""
_IT = re.compile(r"(?:it|its)\b", re.IGNORECASE)
_PRONOUN = re.compile(r"(?:its?|they)\b", re.IGNORECASE)
_THEY = re.compile(r"they cost\b", re.IGNORECASE)
_ARE = re.compile(r"\b(?:are|come)\b", re.IGNORECASE)
_IDENTITY = re.compile(rf"\b(?:is|are|be|called|named)\b|[:,(–—-]\s*(?:a|an|the|our)\b|{_BLANK}\s*{_BLANK}")


@dataclass(frozen=True, slots=True)
class _Owner:
    """Origin of a phrase in the facts."""

    item: int | None
    """Number of the item; None for the basis of the reason."""
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class _Mention:
    """A value that a sentence mentions."""

    phrase: str
    owners: tuple[_Owner, ...]
    """Origins of the phrase in the facts, without those that the words before the phrase rule out."""

    @property
    def titled(self) -> frozenset[int]:
        """Items that have the phrase as their title; several items can share a title."""
        return frozenset(o.item for o in self.owners if o.field == TITLE and o.item is not None)

    @property
    def is_because(self) -> bool:
        """Whether the value can only be the basis of the reason."""
        return all(owner.field == BECAUSE for owner in self.owners)

    def is_of(self, item: int) -> bool:
        """Return whether the item's row has the value."""
        return any(owner.item == item for owner in self.owners)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    """Text with a blank in place of each value."""
    mentions: tuple[_Mention, ...]

    @property
    def named(self) -> list[frozenset[int]]:
        """Items that the sentence names, one set per mention of a title."""
        return [mention.titled for mention in self.mentions if mention.titled]


class TextCheck:
    """Checks texts against the facts of their items."""

    def __init__(self, facts: TextFacts, forbidden: tuple[str, ...] = ()) -> None:
        self._facts = facts
        self._forbidden = forbidden
        self._owners: dict[str, list[_Owner]] = {}
        self._spellings: set[str] = set()
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
        longest_first = sorted(self._spellings, key=len, reverse=True)
        phrases = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._phrases = re.compile(rf"(?<![\w-])(?<!\d[.,])(?:{phrases})(?![\w-])(?![.,]\d)", re.IGNORECASE)

    def _own(self, phrase: str, owner: _Owner) -> None:
        self._spellings.add(phrase)
        self._owners.setdefault(phrase.casefold(), []).append(owner)

    def find_fault(self, part: str, text: str) -> str | None:
        """Return why a headline, blurb or reason is refused, in a stable wording; None if it is accepted."""
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
        """Return the sentences of a text together with the values that each mentions."""
        values: list[tuple[str, tuple[_Owner, ...]]] = []

        def mask(match: re.Match[str]) -> str:
            owners = self._owners.get(match.group().casefold())
            if owners is None:  # some letters match case-insensitively but have different casefolds
                return match.group()
            values.append((match.group().casefold(), tuple(owners)))
            return f"{_OPEN}{len(values) - 1}{_CLOSE}"

        masked = self._phrases.sub(mask, text)
        parts = (part.strip() for whole in split_sentences(masked) for part in whole.split(";"))
        return tuple(_sentence(part, values) for part in parts if part)

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
        """Return a fault unless each value belongs to the item that the sentence names.

        If the sentence names several items, each value must belong to all of them; if it names none, each
        value must belong to all items of the text.
        """
        named = sentence.named
        if not named and before is not None and len(before.named) == 1 and _goes_on(before, sentence):
            named = before.named
        facts = [each for each in sentence.mentions if not each.titled and not each.is_because]
        if named:
            fits = any if sentence.named else all  # "it" may refer to either of two items of the same name
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


def _sentence(masked: str, values: Sequence[tuple[str, tuple[_Owner, ...]]]) -> _Sentence:
    mentions = []
    for match in _MENTION.finditer(masked):
        phrase, owners = values[int(match[1])]
        before = _MENTION.sub(_BLANK, masked[: match.start()])
        mentions.append(_Mention(phrase, _allowed(owners, before, phrase)))
    return _Sentence(_MENTION.sub(_BLANK, masked), tuple(mentions))


def _allowed(owners: tuple[_Owner, ...], before: str, phrase: str) -> tuple[_Owner, ...]:
    """Return the owners of a value, without those that the words just before it rule out."""
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
    """Return whether a sentence that names no item refers to the item of the previous one.

    Plurals such as boots are referred to as "they".
    """
    is_plural = _ARE.search(before.text) and _THEY.match(sentence.text)
    return bool(_IT.match(sentence.text) or is_plural)


def _covers(facts: Sequence[_Mention], item: int) -> bool:
    """Return whether the item has, for each mentioned field, at least one of the mentioned values.

    For "in green and blue", the item must have one of the two colours.
    """
    fields = {owner.field for fact in facts for owner in fact.owners}
    return all(
        any(owner.item == item and owner.field == field for fact in facts for owner in fact.owners)
        for field in fields
    )
