"""Makes the log: for months, shoppers with different tastes visit the shop, look at items and buy some."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from random import Random

from examples.recommendations.goods import Good
from examples.recommendations.makers import BRANDS, LINES, PERSONAS

NUM_DAYS = 150
"""Length of the log, about five months."""

_NEWCOMERS = 0.04
"""Share of shoppers whose first visit was in the last week."""
_IDLE = 0.02
"""Share of sessions that start in a random category, as after an advertisement."""
_CART, _BUY = 0.16, 0.45
"""Share of viewed items that go into the cart, and share of items in the cart that are bought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of the log."""

    user_id: str
    item_id: str
    kind: str
    at: datetime


@dataclass(slots=True, kw_only=True)
class Shopper:
    """A shopper with a taste."""

    user_id: str
    categories: dict[str, float]
    brands: frozenset[str]
    lines: frozenset[str]
    cut: str
    level: float
    """Preferred price level: the logarithm of its ratio to the usual price of a ware."""
    sessions: int
    first_day: int
    bought: set[str] = field(default_factory=set)
    choices: dict[str, tuple[list[Good], list[float]]] = field(default_factory=dict)
    """Goods by category, with the cumulative sums of their attraction for this shopper."""


def make_shoppers(number: int, random: Random) -> list[Shopper]:
    """Return `number` shoppers, most of whom visit the shop a few times, and some every week."""
    shoppers = []
    for position in range(number):
        is_new = random.random() < _NEWCOMERS
        sessions = 1 if is_new else max(1, round(random.lognormvariate(1.5, 0.7)))
        shoppers.append(
            Shopper(
                user_id=f"u{100_000 + position}",
                categories=_categories(random),
                brands=frozenset(brand.name for brand in random.sample(BRANDS, 4)),
                lines=frozenset(random.sample(LINES, 4)),
                cut=random.choice(("women", "men")),
                level=random.gauss(0, 0.45),
                sessions=sessions,
                first_day=NUM_DAYS - random.randint(1, 7) if is_new else random.randint(0, NUM_DAYS // 2),
            )
        )
    return shoppers


def make_log(
    shoppers: Sequence[Shopper], goods: Sequence[Good], random: Random, *, last_day: date
) -> list[Event]:
    """Return all events of the NUM_DAYS days up to `last_day`, in chronological order."""
    shelves = _shelves(goods)
    begin = last_day - timedelta(days=NUM_DAYS - 1)
    events: list[Event] = []
    for shopper in shoppers:
        days = sorted(random.randint(shopper.first_day, NUM_DAYS - 1) for _ in range(shopper.sessions))
        for day in days:
            events += visit(shopper, shelves, begin + timedelta(days=day), random)
        shopper.choices.clear()
    events.sort(key=lambda event: (event.at, event.user_id))
    return events


def visits_of_day(
    shoppers: Sequence[Shopper], goods: Sequence[Good], day: date, share: float, random: Random
) -> list[Event]:
    """Return the events of one more day, on which the given share of the shoppers visits the shop."""
    shelves = _shelves(goods)
    chosen = random.sample(shoppers, round(len(shoppers) * share))
    events = [event for shopper in chosen for event in visit(shopper, shelves, day, random)]
    return sorted(events, key=lambda event: (event.at, event.user_id))


def visit(
    shopper: Shopper, shelves: Mapping[str, Sequence[Good]], day: date, random: Random
) -> Iterator[Event]:
    """Yield the events of one session, in which a shopper views goods of one or more categories."""
    at = datetime.combine(day, time(), tzinfo=UTC) + timedelta(seconds=_second(random))
    category = random.choices(list(shopper.categories), list(shopper.categories.values()))[0]
    if random.random() < _IDLE:
        category = random.choice(list(shelves))
    for _ in range(1 + min(15, int(random.expovariate(0.22)))):
        if random.random() < 0.12:
            category = random.choices(list(shopper.categories), list(shopper.categories.values()))[0]
        good = _look(shopper, shelves, category, random)
        if good is None:
            continue
        for kind in _deeds(shopper, good, random):
            yield Event(user_id=shopper.user_id, item_id=good.row["id"], kind=kind, at=at)
            at += timedelta(seconds=random.randint(8, 240))


def _categories(random: Random) -> dict[str, float]:
    """Return a taste made of one or two personas and a little of another category."""
    taste: defaultdict[str, float] = defaultdict(float)
    for persona, share in zip(
        random.sample(list(PERSONAS), 2), random.choice(((1.0, 0.0), (0.7, 0.3))), strict=True
    ):
        for category, liking in PERSONAS[persona].items():
            if share:
                taste[category] += share * liking * random.gammavariate(1.2, 1)
    extra = random.choice([category for likings in PERSONAS.values() for category in likings])
    taste[extra] += 0.3
    return dict(taste)


def _shelves(goods: Sequence[Good]) -> dict[str, list[Good]]:
    shelves: defaultdict[str, list[Good]] = defaultdict(list)
    for good in goods:
        if not good.is_new:
            shelves[good.ware.category].append(good)
    return dict(shelves)


def _look(
    shopper: Shopper, shelves: Mapping[str, Sequence[Good]], category: str, random: Random
) -> Good | None:
    if category not in shelves:
        return None
    if category not in shopper.choices:
        goods = list(shelves[category])
        shopper.choices[category] = goods, list(accumulate(_draw(shopper, good) for good in goods))
    goods, sums = shopper.choices[category]
    return random.choices(goods, cum_weights=sums)[0]


def _draw(shopper: Shopper, good: Good) -> float:
    """Return how much an item attracts a shopper: its appeal, weighted by how well it fits the taste."""
    low, high = good.ware.price
    distance = math.log(good.price / math.sqrt(low * high)) - shopper.level
    draw = math.pow(good.appeal, 0.8) * math.exp(-(distance**2) / 0.35)
    draw *= 5.0 if good.row["brand"] in shopper.brands else 1.0
    draw *= 6.0 if good.line in shopper.lines else 1.0
    return draw * (0.03 if good.cut in ("women", "men") and good.cut != shopper.cut else 1.0)


def _deeds(shopper: Shopper, good: Good, random: Random) -> Iterator[str]:
    yield "view"
    item_id = good.row["id"]
    if item_id in shopper.bought or random.random() >= _CART:
        return
    yield "cart"
    if random.random() < _BUY:
        shopper.bought.add(item_id)
        yield "purchase"


def _second(random: Random) -> int:
    """Return a second of the day, mostly around noon or in the evening."""
    return min(86_000, max(0, round(random.choice((random.gauss(12.5, 2.5), random.gauss(20, 1.8))) * 3600)))
