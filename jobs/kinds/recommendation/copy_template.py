"""The text that needs no model: plain sentences from the rows, true by construction."""

from __future__ import annotations

from jobs.kinds.recommendation.copy_facts import CopyFacts, Fact, ItemFacts
from jobs.kinds.recommendation.copy_policy import MAX_BLURB_CHARACTERS, MAX_HEADLINE_CHARACTERS
from jobs.kinds.recommendation.copy_words import GROUPS

_COUNTS = ("No", "One", "Two", "Three", "Four", "Five")


def plain_copy(facts: CopyFacts) -> dict[str, str]:
    """Headline, blurb and reason by rule: the same facts, the same words."""
    return {"headline": _headline(facts), "blurb": _blurb(facts), "reason": _reason(facts)}


def _headline(facts: CopyFacts) -> str:
    if len(facts.items) == 1:
        said = facts.items[0].name or _in_category(facts, "A pick") or "A pick for you"
    else:
        picks = f"{_count(len(facts.items))} picks"
        said = _in_category(facts, picks) or f"{picks} for you"
    return said if len(said) <= MAX_HEADLINE_CHARACTERS else "Picked for you"


def _in_category(facts: CopyFacts, what: str) -> str | None:
    """The category that all share, said of them."""
    categories = {item.first(GROUPS) for item in facts.items}
    category = categories.pop()
    return None if categories or category is None else f"{what} in {category}"


def _blurb(facts: CopyFacts) -> str:
    """As much of each item as there is room for; an item without a title that can be said is left out."""
    titled = [item for item in facts.items if item.title is not None]
    for num_facts in range(max((len(item.unsaid()) for item in titled), default=0), -1, -1):
        blurb = " ".join(_sentence(item, num_facts) for item in titled)
        if blurb and len(blurb) <= MAX_BLURB_CHARACTERS:
            return blurb
    kept: list[str] = []
    for item in titled:
        if len(" ".join((*kept, _sentence(item, 0)))) <= MAX_BLURB_CHARACTERS:
            kept.append(_sentence(item, 0))
    return " ".join(kept) or "Have a look: this is one of our picks."


def _sentence(item: ItemFacts, num_facts: int) -> str:
    said = [_said(fact) for fact in item.unsaid()[:num_facts]]
    return f"{item.name}: {', '.join(said)}." if said else f"Have a look at {item.name}."


def _said(fact: Fact) -> str:
    """A fact in few words, with its field where the value alone would not say what it is."""
    match fact.field:
        case "brand" | "author" | "artist" | "director":
            return f"by {fact.value}"
        case "category":
            return f"in {fact.value}"
        case "material" | "fabric":
            return f"made of {fact.value}"
        case "price" | "colour" | "color":
            return fact.value
    return fact.alone


def _reason(facts: CopyFacts) -> str:
    if facts.because is not None:
        return f"Picked because of {facts.because}."
    return f"{_in_category(facts, 'Our pick') or 'Our pick for you'}."


def _count(number: int) -> str:
    return _COUNTS[number] if number < len(_COUNTS) else str(number)
