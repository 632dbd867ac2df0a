"""Writes a text without a model: plain sentences from the rows, as long as the checks and limits allow."""

from __future__ import annotations

from collections.abc import Iterator

from kinds.recommendation.texts.checks import CopyCheck
from kinds.recommendation.texts.facts import CopyFacts, Fact, ItemFacts
from kinds.recommendation.texts.words import COLOURS, GROUPS, MAKERS, MATERIALS, PRICES

_COUNTS = ("No", "One", "Two", "Three", "Four", "Five")


def plain_copy(facts: CopyFacts, check: CopyCheck) -> dict[str, str]:
    """Return headline, blurb and reason by fixed rules: the same facts give the same text.

    Each part is the first candidate that passes the checks; the last candidate says nothing about any item.
    """
    candidates = {"headline": _headlines(facts), "blurb": _blurbs(facts), "reason": _reasons(facts)}
    return {part: _first_that_stands(part, texts, check) for part, texts in candidates.items()}


def _first_that_stands(part: str, texts: Iterator[str], check: CopyCheck) -> str:
    text = ""
    for text in texts:
        if check.find_fault(part, text) is None:
            break
    return text


def _headlines(facts: CopyFacts) -> Iterator[str]:
    count = len(facts.items)
    if count == 1:
        yield from filter(None, (facts.items[0].name, facts.items[0].title))
    picks = "A pick" if count == 1 else f"{_COUNTS[count] if count < len(_COUNTS) else count} picks"
    category = _shared_category(facts)
    if category is not None:
        yield f"{picks} in {category}"
    yield f"{picks} for you"
    yield "For you"
    yield "Here"


def _blurbs(facts: CopyFacts) -> Iterator[str]:
    """Yield candidates for a blurb, which leave out items whose title no text may carry."""
    titled = [item for item in facts.items if item.title is not None]
    for num_facts in range(max((len(item.unsaid()) for item in titled), default=0), -1, -1):
        yield " ".join(dict.fromkeys(_sentence(item, num_facts) for item in titled))
    for num_items in range(len(titled), 0, -1):
        yield " ".join(dict.fromkeys(f"{item.title}." for item in titled[:num_items]))
    for item in titled:
        yield _sentence(item, 0)
    yield "Have a look: this is one of our picks."
    yield "Here it is."
    yield "Here."


def _reasons(facts: CopyFacts) -> Iterator[str]:
    if facts.because is not None:
        yield f"Picked because of {facts.because}."
    category = _shared_category(facts)
    if category is not None:
        yield f"Our pick in {category}."
    yield "Our pick for you."
    yield "For you."
    yield "Here."


def _shared_category(facts: CopyFacts) -> str | None:
    categories = {item.first(GROUPS) for item in facts.items}
    return categories.pop() if len(categories) == 1 else None


def _sentence(item: ItemFacts, num_facts: int) -> str:
    said = [_said(fact) for fact in item.unsaid()[:num_facts]]
    return f"{item.name}: {', '.join(said)}." if said else f"Have a look at {item.name}."


def _said(fact: Fact) -> str:
    """Return a fact in few words, with its field if the value is unclear on its own."""
    if fact.field in MAKERS:
        return f"by {fact.value}"
    if fact.field in GROUPS:
        return f"in {fact.value}"
    if fact.field in MATERIALS:
        return f"made of {fact.value}"
    return fact.value if fact.field in COLOURS | PRICES else fact.alone
