"""The words that a summary may contain, and those that claim a number, a time or a direction.

The list is closed on purpose: a sentence with any other word may state what no fact states ("its chairman
resigned"), or deny what a fact states ("not").
"""

from __future__ import annotations

import re

_UNITS = (
    *(
        "no",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred")

NUMBER_WORDS = (
    {word: number for number, word in enumerate(_UNITS)}
    | {word: 10 * number for number, word in enumerate(_TENS, start=2)}
    | {"none": 0, "zero": 0}
)
"""Values of number words. A compound ("twenty-one") is read as two numbers, neither of which is a fact, so a
sentence with one is dropped."""

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
    """.split()  # noqa: SIM905 - as a list of literals nobody reads it
)

IN_THE_PAST = re.compile(
    r"\b(?:past|usual|usually|normal|normally|average|previous|previously|before|earlier|than|from|against"
    r"|compared (?:to|with)|history|last)\b",
    re.IGNORECASE,
)
"""Words that mark the number next to them as one of the entity's past."""

HEDGES = re.compile(
    r"\b(?:over|under|nearly|almost|roughly|approximately|around|at least|at most|up to)"
    r"\s+(?:the\s+)?\S{0,2}$",
    re.IGNORECASE,
)
"""Hedges just before a number; numbers are exact, so "over 17 documents" is false of 17."""

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
