"""Checks that a sentence written by a model states only what the facts support.

A point holds the facts that one sentence may state. The check covers dates, numbers (value, time and sign),
names, words, and the claimed direction. If in doubt, the check refuses the sentence: a dropped sentence costs
little, a wrong one costs the reader's trust.

The list of permitted words is closed on purpose: a sentence with any other word may claim what no fact
supports ("its chairman resigned"), or deny a fact ("not").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from jobs.text.prose import is_complete

_UNITS = (
    "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety hundred"

NUMBER_WORDS = (
    {word: number for number, word in enumerate(_UNITS.split())}
    | {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
    | {"none": 0, "zero": 0}
)
"""Values of number words. A compound such as "twenty-one" is read as two numbers. The facts do not contain
these, so the sentence is dropped."""

MULTIPLES = {"half": 0.5, "twice": 2.0, "double": 2.0, "doubled": 2.0, "triple": 3.0, "tripled": 3.0}

WORDS = frozenset(
    """
    a about above after again against all almost also although among an and any are around as at average be
    been before below better between both but by change changed close company compared compares coverage
    current daily day days decline declined decrease decreased document documents down drop dropped during
    each earlier entity equal every fall fallen fell few fewer for from had has have high higher hour hourly
    hours however in increase increased increasing into is it its last less level little low lower many mean
    mentioned mentions middle mood month more most much near nearly negative negatives neutral news normal
    normally now number of on only or other over overall part past percent per cent period positive positives
    previous previously published rate rather ratio recent recently remained report reported reports rise
    risen rose same score scored sentiment series share shows showed similar since slightly so stayed steady
    sharply still story stories than that the their them then there these they this those time times to
    today tone topic total turned under unchanged until up usual usually value very was week weekly weeks well
    went were when where which while whole window with within worse
    worsened worsening improved improving improvement half twice double doubled triple tripled down dipped
    climbed sank slid rising falling lowest highest roughly approximately least just exactly what
    """.split()  # noqa: SIM905 - unreadable as a list of literals
)

IN_THE_PAST = re.compile(
    r"\b(?:past|usual|usually|normal|normally|average|previous|previously|before|earlier|than|from|against"
    r"|compared (?:to|with)|history|last)\b",
    re.IGNORECASE,
)
"""Words that show that the number next to them belongs to the entity's past."""

HEDGES = re.compile(
    r"\b(?:over|under|nearly|almost|roughly|approximately|around|at least|at most|up to)"
    r"\s+(?:the\s+)?\S{0,2}$",
    re.IGNORECASE,
)
"""Hedges just before a number. Numbers are exact, so "over 17 documents" is false if there are 17."""

RAISED = re.compile(
    r"\b(?:rise|risen|rose|rising|increase[ds]?|increasing|higher|above|better|improve[ds]?|improving"
    r"|improvement|climbed|up(?! to)|more(?! negative)|highest|less negative|fewer negative)\b",
    re.IGNORECASE,
)
LOWER = re.compile(
    r"\b(?:fall|fallen|fell|falling|declined?|decreased?|lower|below|worse|worsen(?:ed|ing)|drop(?:ped)?"
    r"|sank|slid|dipped|down|less(?! negative)|lowest|more negative)\b",
    re.IGNORECASE,
)
FEWER = re.compile(r"\b(?:fewer(?! negative)|few|only|little|just)\b", re.IGNORECASE)
STEADY_WORDS = re.compile(
    r"\b(?:unchanged|steady|the same|about as|as many as|similar|equal|remained|stayed|close to|much as"
    r"|in line)\b",
    re.IGNORECASE,
)


class Unit(StrEnum):
    """Unit of a number."""

    DOCUMENTS = "documents"
    SHARE = "share"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that a sentence may contain."""

    value: float
    unit: Unit
    is_past: bool = False
    mood: str = ""
    """"negative" if the number counts negative documents only, otherwise empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The facts that one sentence may state."""

    name: str
    """Name of the prompt's block: "volume", "mood" and so on."""
    variables: Mapping[str, object]
    """Variables of the prompt."""
    quantities: tuple[Quantity, ...] = ()
    direction: int | None = None
    """1 if the point's measure is above its past, -1 below, 0 about equal; None if it has no past."""
    mood: str | None = None
    """Word for the current mean score, such as "negative"."""
    names: tuple[str, ...] = ()
    """Names of entities and sources, and dates, spelled as in the facts."""
    plain: str = ""
    """The point as a sentence built from fixed rules, without the model."""


_QUOTED = re.compile(r"[“”\"„«»]")
_NUMBER = re.compile(
    r"(?P<sign>[+\-−–])?(?<![\w.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?P<percent>\s?(?:%|percent\b|per cent\b))?(?P<tail>[\w]*)"
)
_SPELLED = re.compile(
    rf"\b(?:{'|'.join(NUMBER_WORDS)})\b(?P<percent>\s?(?:percent|per cent)\b)?", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_MOOD_CLAIM = re.compile(
    r"\b(?:mood|sentiment|tone|score)\b[^.;]{0,60}?\b(?:was|is|were|stayed|remained|turned)\b"
    r"(?P<adverbs>(?: \w+){0,2}?) (?P<mood>negative|positive|neutral)\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"^\W*(?:\w+\s+){0,1}?(?P<mood>negative|positive|neutral)\b", re.IGNORECASE)
_COUNTED_LATE = re.compile(
    r"^\s*(?:of (?:the |its )?\S+ )?(?:documents?|reports?)?[^,.;:]{0,60}?"
    r"\b(?:was|were|is|are)\s+(?P<mood>negative|positive|neutral)\b",
    re.IGNORECASE,
)
_COUNTS = re.compile(
    r"\s*+(?:(?:(?:new|other|negative|positive|neutral)\s++)?(?:documents?|reports?|stories|story)\b"
    r"|(?:of|out of) (?:the|its|all|these|them)\b|(?:was|were) (?:negative|positive|neutral)\b)",
    re.IGNORECASE,
)
_COUNTS_PAST = re.compile(
    r"\s*+(?:(?:(?:documents?|reports?|stories)\s*+)?"
    r"(?:(?:a|an|per|each|every)\s++(?:hour|day|week)\b|in\b|of\b|[.,;]|$)|documents?\b)",
    re.IGNORECASE,
)
_BLANK = "\N{WHITE SQUARE}"


def find_fault(sentence: str, point: Point) -> str | None:
    """Return the code of the fault in the sentence; None if there is no fault.

    >>> nine = Quantity(9, Unit.DOCUMENTS)
    >>> point = Point(name="volume", variables={}, quantities=(nine,), names=("Alder",))
    >>> find_fault("Alder was in 9 documents.", point), find_fault("Alder was in 8 documents.", point)
    (None, 'number')
    """
    if not is_complete(sentence):
        return "incomplete"
    if _QUOTED.search(sentence):
        return "quotation"
    if any(sentence.count(name) > 1 for name in point.names[:1]):
        return "repetition"
    text = _without_names(sentence, point.names)
    if _unknown_words(text):
        return "name" if any(word[0].isupper() for word in _unknown_words(text)[:1]) else "word"
    return _number_fault(text, point) or _direction_fault(text, point)


def _without_names(text: str, names: tuple[str, ...]) -> str:
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", _BLANK, text, flags=re.IGNORECASE)
    return text


def _unknown_words(text: str) -> list[str]:
    unknown = []
    for match in _WORD.finditer(text):
        word = match.group()
        lower = word.lower().replace("’", "'").removesuffix("'s")
        is_known = all(part in WORDS or part in NUMBER_WORDS for part in lower.split("-"))
        opens = not text[: match.start()].strip(f" ,{_BLANK}") or text[: match.start()].rstrip().endswith(":")
        if not is_known or (word[0].isupper() and not opens and lower not in ("i",)):
            unknown.append(word)
    return unknown


@dataclass(frozen=True, slots=True)
class _Number:
    value: float
    decimals: int
    sign: int
    is_percent: bool
    start: int
    end: int


def _numbers(text: str) -> Iterator[_Number | None]:
    """Yield the numbers of a text; None for each that cannot be read ("12th", "3m")."""
    for match in _NUMBER.finditer(text):
        digits = match["digits"].replace(",", "")
        decimals = len(digits.partition(".")[2])
        sign = {None: 0, "+": 1}.get(match["sign"], -1)
        number = _Number(
            float(digits), decimals, sign, match["percent"] is not None, match.start(), match.end()
        )
        yield None if match["tail"] else number
    for match in _SPELLED.finditer(text):
        value = NUMBER_WORDS[re.split(r"\s", match.group().lower())[0]]
        yield _Number(value, 0, 0, match["percent"] is not None, match.start(), match.end())


def _number_fault(text: str, point: Point) -> str | None:
    readable = list(_numbers(text))
    if any(number is None for number in readable):
        return "number"
    numbers = sorted((number for number in readable if number is not None), key=lambda number: number.start)
    edges = [0, *(number.end for number in numbers)]
    for index, number in enumerate(numbers):
        until = numbers[index + 1].start if index + 1 < len(numbers) else len(text)
        before, after = text[edges[index] : number.start], text[number.end : until]
        fits = [quantity for quantity in point.quantities if _is_rounding(number, quantity)]
        if not fits:
            return "number"
        if not any(_has_its_role(quantity, number, text, before, after) for quantity in fits):
            return "role"
        if _is_hedged(before) and not _rest_is_past(fits):
            return "hedge"
    return _ratio_fault(text, point)


def _is_rounding(number: _Number, quantity: Quantity) -> bool:
    """Return whether the number is the quantity rounded to the number's digits."""
    value = quantity.value
    if quantity.unit is Unit.SHARE:
        if not number.is_percent and (number.decimals == 0 or number.value > 1):
            return False
        value *= 100 if number.is_percent else 1
    elif number.is_percent:
        return False
    if quantity.unit is Unit.SCORE:
        if number.decimals == 0:
            return False
        # A score written without a sign is accepted for both signs; a written sign must be right.
        if number.sign and round(value, number.decimals) and (number.sign > 0) != (value > 0):
            return False
        value = abs(value) if number.sign or value < 0 else value
    elif number.sign < 0:
        return False
    return abs(value - number.value) <= 0.5 * 10.0**-number.decimals + 1e-9


def _has_its_role(quantity: Quantity, number: _Number, text: str, before: str, after: str) -> bool:
    """Return whether the words around the number describe the quantity correctly."""
    return (
        _is_of_its_time(quantity, before, after)
        and _is_of_its_mood(quantity, text, number)
        and _is_of_its_unit(quantity, after)
    )


def _is_of_its_unit(quantity: Quantity, after: str) -> bool:
    """Return whether a number of documents is followed by a word for documents, unlike in "2 days"."""
    if quantity.unit is not Unit.DOCUMENTS:
        return True
    return (_COUNTS_PAST if quantity.is_past else _COUNTS).match(after) is not None


def _is_of_its_time(quantity: Quantity, before: str, after: str) -> bool:
    """Return whether the text assigns the number correctly to the past or to the window itself."""
    following = " ".join(after.split()[:5])
    following = re.split(r"[,;:.]|\b(?:and|but|while|against|compared|than|from)\b", following)[0]
    says_past = bool(IN_THE_PAST.search(before) or IN_THE_PAST.search(following))
    return says_past == quantity.is_past


def _is_of_its_mood(quantity: Quantity, text: str, number: _Number) -> bool:
    if quantity.unit is Unit.SCORE:
        return True
    after = text[number.end :]
    match = _COUNTED.match(after) or _COUNTED_LATE.match(after)
    claimed = match["mood"].lower() if match else None
    if quantity.unit is Unit.SHARE:
        return claimed in (None, quantity.mood)
    # "Of the 9 documents, 6 were negative": the count of all documents precedes the comma.
    if quantity.mood:
        return claimed == quantity.mood or (claimed is None and bool(re.search(r"\bnegatives?\b", text)))
    return claimed is None or bool(re.search(r"\bof (?:the |its |all )?$", text[: number.start]))


def _is_hedged(before: str) -> bool:
    return bool(HEDGES.search(before))


def _rest_is_past(fits: list[Quantity]) -> bool:
    return all(quantity.is_past for quantity in fits)


def _ratio_fault(text: str, point: Point) -> str | None:
    """Return a fault if the text states a multiple, such as "twice", but the ratio to the past differs."""
    for word, multiple in MULTIPLES.items():
        if re.search(rf"\b{word}\b", text, re.IGNORECASE):
            now = [q.value for q in point.quantities if not q.is_past and not q.mood]
            past = [q.value for q in point.quantities if q.is_past]
            if not now or not past or not past[0] or round(now[0] / past[0] * 2) / 2 != multiple:
                return "ratio"
    return None


def _direction_fault(text: str, point: Point) -> str | None:
    claimed = {
        side
        for side, pattern in ((1, RAISED), (-1, LOWER), (-1, FEWER), (0, STEADY_WORDS))
        if pattern.search(text)
    }
    if len(claimed) > 1:
        return "direction"
    if claimed and (point.direction is None or claimed != {point.direction}):
        return "direction"
    for match in _MOOD_CLAIM.finditer(text):
        if match["mood"].lower() != point.mood:
            return "mood"
    return None
