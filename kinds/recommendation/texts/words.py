"""The words that a text may use besides values from the rows, and the values that may follow some of them.

The vocabulary is closed on purpose: any other word may state what no row states ("waterproof", "for winter",
"award-winning"), or deny what one states ("not"). None of these words says anything about an item on its own:
no quality, use, place, person, time, number or comparison.
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
    """.split()  # noqa: SIM905 - a list of literals would be unreadable
)

CLAIMS = re.compile(r"\b(?:you(?:['’]ve| have)|(?:our|the|this) shop)\b", re.IGNORECASE)
"""Phrases of allowed words that would nevertheless make a statement about the reader or the shop."""

NEEDED = frozenset({"here"})
"""Words that the plain template uses when nothing else is left, so that a policy cannot forbid them."""

NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5}

COUNTED = re.compile(
    r"\s+(?:of|for|to|our|picks|items|things|pieces|finds|ideas|choices|suggestions|recommendations|□)",
    re.IGNORECASE,
)
"""Matches what may follow a number, which can only be the number of the text's items."""

TITLE, BECAUSE = "title", "because"
MAKERS = frozenset(
    {"brand", "maker", "manufacturer", "author", "authors", "artist", "director", "publisher", "designer"}
)
COLOURS = frozenset({"colour", "color"})
HUES = frozenset(
    {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray"}
)
"""Words that may stand for a colour that ends in them: "deep red" may be called red."""
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
"""Fields that a value must belong to, by the words right before it without articles; the first match counts.
"Made of Alder" is wrong for a tent whose brand is Alder, and "from 29 EUR" for a tent that costs 29 EUR."""

NEVER_OF = tuple(
    (re.compile(rf"\b(?:{before})$", re.IGNORECASE), fields)
    for before, fields in (
        (r"in", PRICES | {TITLE, BECAUSE}),
        (r"with", PRICES | GROUPS | MAKERS | {TITLE, BECAUSE}),
    )
)
"""Fields that a value must not belong to: "comes with a mug" is wrong for an item in the category of mugs."""
