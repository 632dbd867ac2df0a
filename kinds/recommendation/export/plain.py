"""Writes the plain text for an audience whose own text failed or is about a withdrawn item."""

from __future__ import annotations

from collections.abc import Sequence

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.texts.checks import CopyCheck
from kinds.recommendation.texts.facts import read_facts
from kinds.recommendation.texts.policy import Brief, CopyPolicy, CopyText, Featured
from kinds.recommendation.texts.template import plain_copy

TEMPLATE = "template"
"""Origin of a text that no model wrote."""


def plain_text(audience: str, items: Sequence[Item], because: str | None, policy: CopyPolicy) -> CopyText:
    """Return the text that the stage `copy` uses if it accepts no answer; `items` has at least one item."""
    featured = sorted(items, key=lambda item: item.id)
    brief = Brief(
        audience=audience,
        items=tuple(Featured(item_id=item.id, row=item.part(policy.fields)) for item in featured),
        because=because,
    )
    facts = read_facts(brief, policy)
    parts = plain_copy(facts, CopyCheck(facts, policy.forbidden))
    return CopyText(**parts, origin=TEMPLATE, template_parts=tuple(parts))
