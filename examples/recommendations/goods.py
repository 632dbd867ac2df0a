"""Makes the catalogue: wares by makers in some materials, colours and sizes, each with a description."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from random import Random

from examples.recommendations.makers import BRANDS, COLOURS, LINES, Brand
from examples.recommendations.materials import MATERIALS
from examples.recommendations.wares import WARES, Ware

COLUMNS = (
    "id", "title", "description", "category", "brand", "line", "material", "colour", "size", "cut",
    "features", "price", "currency", "available", "available_from", "available_until",
)  # fmt: skip

_OUT_OF_STOCK, _LIMITED, _NEW = 0.03, 0.02, 0.025
"""Shares of items that are sold out, available until a certain day, or too new to have been seen."""
_WORN = frozenset({"jackets", "boots", "base layers"})
_CUTS = ("women", "men", "unisex")
_PRICE_ENDS = (0.0, 0.5, 0.9, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """An item, with the properties that attract shoppers."""

    row: dict[str, str]
    ware: Ware
    line: str
    cut: str
    price: float
    appeal: float
    """General popularity of the item; a few items have nearly all of it."""
    is_new: bool = False


def make_goods(number: int, random: Random, *, last_day: date) -> list[Good]:
    """Return `number` items, spread evenly over wares, makers and lines.

    A model has up to three variants, which differ in colour and size.
    """
    goods: list[Good] = []
    taken: set[tuple[str, str]] = set()
    while len(goods) < number:
        ware = WARES[len(taken) % len(WARES)]
        brand = random.choice([each for each in BRANDS if ware.category in each.categories])
        line = random.choice(LINES)
        if (f"{brand.name} {line}", ware.noun) in taken:
            continue
        taken.add((f"{brand.name} {line}", ware.noun))
        goods += _model(ware, brand, line, random, last_day)[: number - len(goods)]
    random.shuffle(goods)  # otherwise an item's number would reveal its category
    for position, good in enumerate(goods):
        good.row["id"] = f"W{10_000 + position}"
    return goods


def _model(ware: Ware, brand: Brand, line: str, random: Random, last_day: date) -> list[Good]:
    """Return the variants of one maker's model, which share description, material and most of the price."""
    material = random.choice(ware.materials)
    features = random.sample(ware.features, random.randint(1, min(3, len(ware.features))))
    cut = random.choice(_CUTS) if ware.category in _WORN and ware.noun != "Beanie" else ""
    low, high = ware.price
    price = (low + (high - low) * random.betavariate(1.6, 2.2)) * brand.level
    text = describe(ware, brand, line, material, features, random)
    sizes = (
        _worn_sizes(ware, random) if ware.category in _WORN else random.sample(ware.sizes, len(ware.sizes))
    )
    colours = random.sample(COLOURS[ware.colours], random.choice((1, 1, 2, 2, 3)))
    variants = [(sizes[position % len(sizes)], colour) for position, colour in enumerate(colours)]
    goods = []
    for size, colour in variants:
        of_size = ware.sizes.index(size) / max(1, len(ware.sizes) - 1) - 0.5 if size in ware.sizes else 0.0
        amount = _price(price * (1 + 0.35 * of_size), random)
        row = {
            "title": _title(ware, brand, line, size, colour, cut, several=len(variants) > 1),
            "description": text,
            "category": ware.category,
            "brand": brand.name,
            "line": line,
            "material": material,
            "colour": colour,
            "size": size,
            "cut": cut,
            "features": "|".join(features),
            "price": f"{amount:.2f}",
            "currency": "EUR",
        }
        goods.append(
            _sold(row, Good(row=row, ware=ware, line=line, cut=cut, price=amount, appeal=1), random, last_day)
        )
    return goods


def describe(ware: Ware, brand: Brand, line: str, material: str, features: list[str], random: Random) -> str:
    """Return two to four sentences about an item, which state only facts from its catalogue row."""
    noun, is_plural = ware.noun.lower(), ware.noun.endswith("s") and not ware.noun.endswith("ss")
    uses = random.sample(ware.uses, min(2, len(ware.uses)))
    made = {
        "noun": noun, "Noun": ware.noun, "brand": brand.name, "line": line, "material": material,
        "use": uses[0], "other": uses[-1], "this": "These" if is_plural else "This",
        "it": "They" if is_plural else "It", "has": "have" if is_plural else "has",
        "is": "are" if is_plural else "is", "comes": "come" if is_plural else "comes",
        "a": "" if is_plural else "an " if noun[0] in "aeiou" else "a ",
    }  # fmt: skip
    opening = random.choice(_OPENINGS if len(uses) > 1 else _OPENINGS[:3])
    sentences = [opening]
    if material in MATERIALS and random.random() < 0.75:
        sentences.append(random.choice(_OF_MATERIAL).replace("{quality}", MATERIALS[material]))
    listed = " and ".join(filter(None, (", ".join(features[:-1]), features[-1])))
    sentences.append(random.choice(_OF_FEATURES).replace("{features}", listed))
    if random.random() < 0.35:
        sentences.append(random.choice(_CLOSINGS))
    text = " ".join(sentence.format_map(made) for sentence in sentences)
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


_OPENINGS = (
    "{a}{noun} for {use}.",
    "Made for {use}.",
    "{brand} made the {line} {noun} with {use} in mind.",
    "{a}{noun} for {use} and {other}.",
    "Good company for {use}, and just as good for {other}.",
    "For {use}, {other} and everything in between.",
    "Some buy the {line} {noun} for {use}, others for {other}.",
)
_OF_MATERIAL = (
    "{material} {quality}.",
    "We like the {material}: it {quality}.",
    "{it} {is} made of {material}, which {quality}.",
)
_OF_FEATURES = (
    "{it} {has} {features}.",
    "{this} {noun} {comes} with {features}.",
    "With {features}.",
    "What we like most: {features}.",
    "{brand} added {features}.",
)
_CLOSINGS = (
    "{it} {is} part of the {line} series by {brand}.",
    "There is more from the {line} series in the shop.",
    "Goes with everything of the {line} series.",
)


def _title(ware: Ware, brand: Brand, line: str, size: str, colour: str, cut: str, *, several: bool) -> str:
    noun = f"{cut.capitalize()}'s {ware.noun}" if cut in ("women", "men") else ware.noun
    if ware.category in _WORN or not size:
        title = f"{brand.name} {line} {noun}"
    elif size[0].isdigit() and "Person" in size:
        title = f"{brand.name} {line} {size} {noun}"
    else:
        title = f"{brand.name} {line} {noun}, {size}"
    return f"{title}, {colour}" if several or ware.category in _WORN else title


def _worn_sizes(ware: Ware, random: Random) -> list[str]:
    """Return a list with one cell, which contains a few neighbouring sizes: those in stock."""
    begin = random.randint(0, max(0, len(ware.sizes) - 3))
    return ["|".join(ware.sizes[begin : begin + random.randint(2, 5)])]


def _price(amount: float, random: Random) -> float:
    """Round an amount to a typical shop price; high prices are whole numbers."""
    if amount > 120:
        return float(round(amount / 5) * 5 - random.choice((0, 1)))
    return max(2.0, round(amount)) - 1 + random.choice(_PRICE_ENDS)


def _sold(row: dict[str, str], good: Good, random: Random, last_day: date) -> Good:
    chance = random.random()
    is_new = chance > 1 - _NEW
    row["available"] = "false" if chance < _OUT_OF_STOCK else "true"
    until = _OUT_OF_STOCK < chance < _OUT_OF_STOCK + _LIMITED
    row["available_until"] = _day(last_day + timedelta(days=random.randint(-20, 60))) if until else ""
    row["available_from"] = _day(last_day - timedelta(days=random.randint(0, 3))) if is_new else ""
    return Good(
        row=row,
        ware=good.ware,
        line=good.line,
        cut=good.cut,
        price=good.price,
        appeal=random.paretovariate(1.1),
        is_new=is_new,
    )


def _day(day: date) -> str:
    return datetime.combine(day, time()).strftime("%Y-%m-%dT%H:%M:%SZ")
