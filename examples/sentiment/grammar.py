"""Makes documents of a given mood by choosing phrases and filling their slots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random

from examples.sentiment import names, phrases
from examples.sentiment.names import Company, Topic

MOODS = ("negative", "neutral", "positive")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_FOLLOWUPS = ("UPDATE 1-", "RPT-", "", "", "WRAPUP ")
_TAILS = ("", "", " (Adds details)", " - {source}", " More to follow.")


def company_news(company: Company, mood: str, random: Random) -> tuple[str, str]:
    """Return a headline and a body, which has an opening and one to four more sentences."""
    slots = _slots(random, company=company)
    headline = _fill(random.choice(phrases.HEADLINES[mood]), slots, random)
    number = random.choices((1, 2, 3), (3, 5, 4))[0]
    sentences = [_fill(s, slots, random) for s in random.sample(phrases.BODIES[mood], number)]
    if mood != "neutral" and random.random() < 0.15:  # some news reports both sides
        other = "positive" if mood == "negative" else "negative"
        sentences.append(_fill(random.choice(phrases.BODIES[other]), slots, random))
    lead = f"{company.name} {random.choice(('', '', f'({company.ticker}) '))}".strip()
    opening = _fill(random.choice(_OPENINGS[mood]), slots | {"C": lead}, random)
    return headline, " ".join([opening, *sentences])


def company_post(company: Company, mood: str, random: Random) -> str:
    """Return a short post, as people write them about a stock."""
    return _fill(random.choice(phrases.POSTS[mood]), _slots(random, company=company), random)


def joint_news(first: Company, second: Company, moods: tuple[str, str], random: Random) -> tuple[str, str]:
    """Return the headline and body of a document about two companies, each with its own mood."""
    clauses = []
    for company, mood in zip((first, second), moods, strict=True):
        slots = _slots(random, company=company) | {"C": company.name}
        clauses.append(_fill(random.choice(_CLAUSES[mood]), slots, random))
    joint = random.choice(("; {b}", ", while {b}", ", but {b}" if moods[0] != moods[1] else ", and {b}"))
    headline = clauses[0] + joint.replace("{b}", clauses[1])
    bodies = [
        _fill(random.choice(_OPENINGS[mood]), _slots(random, company=company) | {"C": company.name}, random)
        for company, mood in zip((first, second), moods, strict=True)
    ]
    return headline, " ".join(bodies)


def topic_news(topic: Topic, mood: str, random: Random) -> tuple[str, str]:
    """Return a headline and one or two sentences about a topic."""
    slots = _slots(random) | {"T": topic.aliases[0].capitalize(), "t": random.choice(topic.aliases)}
    headline = _fill(random.choice(phrases.TOPIC_HEADLINES[mood]), slots, random)
    number = random.choice((1, 2))
    return headline, " ".join(_fill(s, slots, random) for s in random.sample(_TOPIC_BODIES[mood], number))


def foreign_news(company: Company, random: Random) -> tuple[str, str]:
    """Return a language and a text in that language."""
    language, text = random.choice(phrases.FOREIGN)
    return language, _fill(text, _slots(random, company=company) | {"C": company.name}, random)


def noise(random: Random) -> str:
    """Return a text that is not about any company or topic of the watch list."""
    return _fill(random.choice(phrases.NOISE), _slots(random), random)


def followup(headline: str, body: str, source: str, random: Random) -> tuple[str, str]:
    """Return the headline and body of the same news in the version of another news agency."""
    tail = random.choice(_TAILS).replace("{source}", source)
    return random.choice(_FOLLOWUPS) + headline, body + tail


def _slots(random: Random, *, company: Company | None = None) -> dict[str, str]:
    """Return the values of slots that stay the same within a document."""
    slots = {
        "Q": random.choice(("Q1", "Q2", "Q3", "Q4", "first-quarter", "third-quarter", "half-year")),
        "firm": random.choice(names.FIRMS),
        "client": random.choice(names.CLIENTS),
        "place": random.choice(names.PLACES),
        "person": random.choice(names.PEOPLE),
        "weekday": random.choice(names.WEEKDAYS),
    }
    if company is not None:
        called = company.name if random.random() < 0.6 else company.short
        slots |= {"C": called, "T": company.ticker, "product": company.product}
    return slots


def _number(slot: str, random: Random) -> str:
    """Return a number for a slot; unlike other slots, numbers are drawn anew each time."""
    if slot == "money":
        million, billion = random.randrange(11, 940), random.uniform(1, 6)
        return random.choice((f"${million} million", f"{billion:.1f} billion euros"))
    if slot == "small":
        return f"{random.uniform(1, 9.9):.1f}".replace(".0", "")
    low, high = {"pct": (8, 64), "n": (2, 13), "target": (12, 180)}[slot]
    return str(random.randrange(low, high))


def _fill(pattern: str, slots: Mapping[str, str], random: Random) -> str:
    while match := _CHOICE.search(pattern):
        chosen = random.choice(match.group(1).split("|"))
        pattern = pattern[: match.start()] + chosen + pattern[match.end() :]
    filled = _SLOT.sub(lambda slot: slots.get(slot.group(1)) or _number(slot.group(1), random), pattern)
    return " ".join(filled.replace(" ,", ",").replace(" ;", ";").split())


_OPENINGS = {
    "positive": (
        "{C} on {weekday} [reported|announced] [better than expected|sharply higher] [results|profit|sales] "
        "for {product}.",
        "Shares of {C} rose {small}% after [strong figures|good news] from its {product} business.",
        "{C} said business with {product} was [growing fast|better than planned].",
        "{C} has [surprised|delighted] investors with [strong|record] [sales|earnings].",
    ),
    "neutral": (
        "{C} on {weekday} [published|released] [the agenda|a notice|details] about its {product} business.",
        "{C}, known for its {product}, [gave an update|informed shareholders] on {weekday}.",
        "{C} confirmed its plans for {product}, as announced before.",
        "{C} said in a filing that [nothing had changed|its schedule stood].",
    ),
    "negative": (
        "{C} on {weekday} [reported|announced] [worse than expected|sharply lower] [results|profit|sales] "
        "for {product}.",
        "Shares of {C} fell {pct}% after [weak figures|bad news] from its {product} business.",
        "{C} said business with {product} was [shrinking fast|worse than planned].",
        "{C} has [shocked|disappointed] investors with [weak|collapsing] [sales|earnings].",
    ),
}
_CLAUSES = {
    "positive": (
        "{C} [rallies|gains|jumps] on [strong results|upgrade|new orders]",
        "{C} raises outlook",
        "{C} tops estimates",
    ),
    "neutral": (
        "{C} [flat|little changed|unchanged]",
        "{C} to report on {weekday}",
        "{C} names new directors",
    ),
    "negative": (
        "{C} [slumps|slides|drops] on [weak results|downgrade|lost orders]",
        "{C} cuts outlook",
        "{C} misses estimates",
    ),
}
_TOPIC_BODIES = {
    "positive": (
        "Economists at {firm} said the worst was over for {t}.",
        "Companies in {place} reported relief and rising confidence.",
        "Stocks rose {small}% on hopes of further improvement in {t}.",
    ),
    "neutral": (
        "Officials in {place} will publish their report on {t} on {weekday}.",
        "{firm} left its view of {t} unchanged.",
        "The meeting on {t} is part of a regular series.",
    ),
    "negative": (
        "Economists at {firm} warned that {t} would hurt growth and jobs.",
        "Companies in {place} reported losses and falling confidence.",
        "Stocks fell {small}% on fears of further damage from {t}.",
    ),
}
