"""Describes in plain words why an item is on a list."""

from __future__ import annotations

from collections.abc import Mapping

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.lists import Reason, ReasonKind

CATEGORY = "category"


def reason_words(reason: Reason, item_id: str, catalogue: Mapping[str, Item]) -> str:
    """Return one sentence with facts from the catalogue, which claims nothing that the score did not use.

    >>> from kinds.recommendation.ranking.lists import Reason, ReasonKind
    >>> items = {"1": Item(id="1", title="Alpine tent", category="Tents"), "2": Item(id="2", title="Lantern")}
    >>> reason_words(Reason(kind=ReasonKind.BEHAVIOUR, because="1"), "2", items)
    'People interested in “Alpine tent” were interested in this too.'
    >>> reason_words(Reason(kind=ReasonKind.POPULAR, attribute="category"), "1", items)
    'Popular in Tents.'
    """
    because = catalogue.get(reason.because) if reason.because is not None else None
    title = f"“{because.title}”" if because is not None else None
    match reason.kind:
        case ReasonKind.BEHAVIOUR:
            if title is None:
                return "People with interests like yours were interested in this."
            return f"People interested in {title} were interested in this too."
        case ReasonKind.CONTENT:
            shared = _shared(reason.attribute, catalogue.get(item_id), because)
            if title is None:
                return f"It fits what you were interested in{shared}."
            if not shared:  # chosen by its description as a whole, which does not make the two similar
                return f"By its description it goes with {title}, which you were interested in."
            return f"Similar to {title}, which you were interested in{shared}."
        case ReasonKind.POPULAR:
            value = _value(reason.attribute, catalogue.get(item_id))
            if reason.attribute is None or value is None:
                return "Popular with others."
            if reason.attribute == CATEGORY:
                return f"Popular in {value}."
            return f"Popular with others who look for {_words(reason.attribute)} {value}."


def _shared(attribute: str | None, item: Item | None, because: Item | None) -> str:
    """Return ": the same brand, Northpeak" if both rows have the value."""
    value = _value(attribute, item)
    if attribute is None or value is None:
        return ""
    if because is not None and _value(attribute, because) != value:
        return f": {_words(attribute)} {value}"
    return f": the same {_words(attribute)}, {value}"


def _value(attribute: str | None, item: Item | None) -> str | None:
    """Return the value of an attribute in words, or None if it cannot be put briefly."""
    if item is None or attribute is None:
        return None
    value = item.category if attribute == CATEGORY else item.attributes.get(attribute)
    if isinstance(value, bool) or value is None or value == "" or value == ():
        return None
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else value


def _words(attribute: str) -> str:
    return attribute.replace("_", " ")
