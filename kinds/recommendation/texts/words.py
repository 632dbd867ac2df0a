"""The words that copy may be made of beside the values of the rows, and what may stand after some of them.

Closed on purpose: any other word may say what no row says ("waterproof", "for winter", "award-winning"), or
deny what one says ("not"). None of these says anything of an item by itself: no quality, use, place, person,
time, number or comparison.
"""

from __future__ import annotations

import re

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
    """.split()  # noqa: SIM905 - as a list of literals nobody reads it
)

CLAIMS = re.compile(r"\b(?:you(?:['’]ve| have)|(?:our|the|this) shop)\b", re.IGNORECASE)
"""Of closed words, and yet said of the reader or of the shop, not of an item."""

NEEDED = frozenset({"here"})
"""What the plain template says when nothing else can be said: a policy cannot forbid it."""

NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5}

COUNTED = re.compile(
    r"\s+(?:of|for|to|our|picks|items|things|pieces|finds|ideas|choices|suggestions|recommendations|□)",
    re.IGNORECASE,
)
"""What may follow a number: it counts the items of the text, and nothing else."""

TITLE, BECAUSE = "title", "because"
MAKERS = frozenset(
    {"brand", "maker", "manufacturer", "author", "authors", "artist", "director", "publisher", "designer"}
)
COLOURS = frozenset({"colour", "color"})
HUES = frozenset(
    {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray"}
)
"""A colour may be said by its last word, if that is one of these: "deep red" is red."""
MATERIALS = frozenset({"material", "materials", "fabric"})
PRICES = frozenset({"price"})
GROUPS = frozenset({"category", "collection", "series", "genre", "genres"})
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
"""What stands right before a value, articles left out -> the fields that it must be of; the first that fits
counts. "Made of Alder" is no fact of a tent whose brand is Alder, and "from 29 EUR" none of one at 29 EUR."""

NEVER_OF = tuple(
    (re.compile(rf"\b(?:{before})$", re.IGNORECASE), fields)
    for before, fields in (
        (r"in", PRICES | {TITLE, BECAUSE}),
        (r"with", PRICES | GROUPS | MAKERS | {TITLE, BECAUSE}),
    )
)
"""The fields that it must not be of: "comes with a mug" is no fact of what is in the category of mugs."""
