"""Finds the claims of a text about goods of the demo shop, and checks that the goods' rows support them.

This module shares no code with Pressroom's own checks and works the other way round. Those checks allow a
closed list of words; this module looks for every colour, material, maker, category, size and feature of the
shop, and for a list of claims that shops often make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, str]

CLAIMS = frozenset(
    """
    waterproof water-resistant windproof breathable durable sturdy robust strong tough light
    lightweight heavy warm cosy cozy cool soft comfortable comfort ergonomic elegant stylish classic
    modern vintage rustic luxury luxurious premium quality high-quality top-quality beautiful lovely
    pretty gorgeous stunning perfect ideal great good best better finest fine superb excellent
    amazing awesome unique rare exclusive limited special popular favourite favorite famous renowned
    legendary iconic award award-winning best-selling bestseller bestselling top top-notch new
    newest latest brand-new upcoming old used refurbished handmade hand-made handcrafted crafted
    artisan custom custom-made organic natural eco eco-friendly sustainable ethical fair vegan
    recycled recyclable biodegradable free cheap cheaper affordable inexpensive bargain discount
    discounted sale reduced save saving offer deal gift shipping delivery guarantee guaranteed
    warranty certified tested approved authentic genuine original official patented safe healthy
    hypoallergenic washable foldable adjustable portable compact small large big huge tiny long
    short wide narrow tall thick thin versatile practical easy quick fast simple smart rechargeable
    cordless electric solar led women men unisex kids children baby family families adults beginners
    professionals home kitchen office garden outdoor outdoors indoor travel camping hiking beach
    winter summer spring autumn christmas holiday today tomorrow now soon only last first never
    always everyone nobody most more less least than ever not no without bought customers people
    loved rated stars reviews
    """.split()  # noqa: SIM905 - as a list of literals nobody reads it
)
HUES = frozenset(
    """
    red orange yellow green blue purple violet pink brown black white grey gray silver gold golden
    beige ivory cream navy teal turquoise olive lime mustard rust sand sage copper bronze charcoal
    graphite maroon burgundy crimson scarlet magenta lavender mint coral peach tan khaki oatmeal
    terracotta rose honey walnut natural amber colourful colorful multicoloured bright dark pale
    deep
    """.split()  # noqa: SIM905 - as a list of literals nobody reads it
)
STUFFS = frozenset(
    """
    wool cotton linen silk leather suede canvas nylon polyester velvet satin denim fleece down felt
    jute rattan bamboo wood wooden oak beech teak larch cedar pine acacia ash walnut eucalyptus
    steel iron aluminium titanium brass copper metal plastic rubber latex glass ceramic porcelain
    stoneware clay concrete marble stone paper mesh microfibre polyamide polycarbonate polypropylene
    polyethylene acrylic webbing gold silver diamond
    """.split()  # noqa: SIM905 - as a list of literals nobody reads it
)
NUMBER_WORDS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
}

_WORD = re.compile(r"[a-z0-9]+(?:[.'-][a-z0-9]+)*")
_PRICE = re.compile(r"([\d.,]*\d)\s*(?:eur|€|usd|\$|gbp|£)|(?:eur|€|usd|\$|gbp|£)\s*([\d.,]*\d)")
_MADE_OF = re.compile(r"made (?:of|from|with) ((?:[a-z-]+ ?)+)")
_BY = re.compile(r"\bby ([^.,(:]+)")
_COLUMNS = ("title", "category", "brand", "line", "material", "colour", "size", "cut", "features")
_SAYS_NOTHING = frozenset(
    """
    a an the and of in with for to on at by from it is are can have you your our one look take set
    """.split()  # noqa: SIM905 - as a list of literals nobody reads it
)
"""Words of titles and features that any sentence may contain, such as "can" from "watering can"."""


@dataclass(frozen=True, slots=True)
class Lie:
    """A claim of a text that the row of its item does not support."""

    sentence: str
    said: str
    kind: str


class ShopVocabulary:
    """All words that state a property of some item of the shop."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._words = set(CLAIMS | HUES | STUFFS)
        for row in rows:
            self._words.update(*(_words(row[column]) for column in _COLUMNS))
        self._words -= _SAYS_NOTHING

    def lies(self, text: str, rows: Sequence[Row], *, because: str | None = None) -> Iterator[Lie]:
        """Yield claims that the rows do not support; names in `because` may only be mentioned as the reason.

        Texts mention them as in "because of NAME" or "interest in NAME".
        """
        text = text.lower()
        for name in sorted(filter(None, _names_of(because)), key=len, reverse=True):
            text = text.replace(f"interest in {name}", "interest").replace(f"because of {name}", "because")
        named: list[Row] = []
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            here = [row for row in rows if _is_named(row, sentence)]
            named = here or (named if re.match(r"(?:it|they)\b", sentence) else [])
            yield from self._lies_of(sentence, named or rows, is_named=bool(named), number=len(rows))

    def _lies_of(self, sentence: str, rows: Sequence[Row], *, is_named: bool, number: int) -> Iterator[Lie]:
        """Yield the lies of a sentence; if rows share a name, it may be about any of them."""
        alike = len({_name(row) for row in rows}) == 1 and len(rows) > 1
        found = [list(self._lies_of_row(sentence, row, is_named=is_named, number=number)) for row in rows]
        yield from min(found, key=len) if alike else (lie for lies in found for lie in lies)

    def _lies_of_row(self, sentence: str, row: Row, *, is_named: bool, number: int) -> Iterator[Lie]:
        said = words_of(row)
        price = float(row["price"])
        for match in _PRICE.finditer(sentence):
            if float((match[1] or match[2]).replace(",", "")) != price:
                yield Lie(sentence, match.group(), "price")
        for word in _words(_PRICE.sub(" ", sentence)):
            if word in NUMBER_WORDS:
                if word not in said and (NUMBER_WORDS[word] != number or is_named):
                    yield Lie(sentence, word, "number")
            elif (
                (word in self._words or word[0].isdigit())
                and word not in said
                and word.rstrip("s") not in said
            ):
                yield Lie(sentence, word, "word")
        for match in _MADE_OF.finditer(sentence):
            if not match[1].startswith(row["material"].lower()):
                yield Lie(sentence, match.group(), "material")
        for match in _BY.finditer(sentence):
            if not match[1].startswith(row["brand"].lower()):
                yield Lie(sentence, match.group(), "maker")


def words_of(row: Row) -> set[str]:
    """Return all words of a row."""
    return _words(" ".join(row.values()))


def unlisted_words(texts: Iterable[str], rows: Sequence[Row]) -> set[str]:
    """Return the words of the texts that occur in no row, for a person to check."""
    return {word for text in texts for word in _words(text)} - _words(
        " ".join(v for r in rows for v in r.values())
    )


def _words(text: str) -> set[str]:
    """Return the words in lower case; compounds appear both as a whole and in parts."""
    found = set()
    for word in _WORD.findall(text.lower().replace("’", "'")):
        whole = word.removesuffix("'s")
        found |= {whole, *re.split(r"[-']", whole)}
    return found - {""}


def _name(row: Row) -> str:
    """Return the name of an item: its title without maker and variant."""
    return row["title"].lower().removeprefix(row["brand"].lower()).split(", ")[0].strip()


def _is_named(row: Row, sentence: str) -> bool:
    return _name(row) in sentence


def _names_of(because: str | None) -> tuple[str, ...]:
    return () if because is None else (because.lower(), because.lower().split(", ")[0])
