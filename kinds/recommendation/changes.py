"""Finds why a text is rewritten: which of its inputs has changed since the previous release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.releases.release import CopyEntry
from kinds.recommendation.texts.policy import CopyPolicy


class Why(StrEnum):
    """Reason why a text is rewritten; the first that applies is used."""

    NEW = "new audience"
    ITEMS = "other items"
    ROW = "an item's row"
    BECAUSE = "other reason"
    POLICY = "template, model or policy"
    MISSING = "not written before"
    """The inputs are the same, but the text's job failed or its text is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A text that has to be written, and why."""

    audience: str
    why: Why
    details: Mapping[str, object] = field(default_factory=dict)


def change_of(
    audience: str,
    entry: CopyEntry,
    before: CopyEntry | None,
    items: Mapping[str, Item],
    items_before: Mapping[str, Item],
    policy: CopyPolicy,
) -> Change:
    """Return what has changed since the audience's previous text."""
    if before is None:
        return Change(audience=audience, why=Why.NEW)
    if before.key == entry.key:
        return Change(audience=audience, why=Why.MISSING)
    if before.items != entry.items:
        gone, come = set(before.items) - set(entry.items), set(entry.items) - set(before.items)
        return Change(
            audience=audience, why=Why.ITEMS, details={"removed": sorted(gone), "added": sorted(come)}
        )
    rows = {
        item_id: fields
        for item_id in entry.items
        if (fields := _fields(items_before.get(item_id), items[item_id], policy))
    }
    if rows:
        return Change(audience=audience, why=Why.ROW, details=rows)
    if before.because != entry.because:
        return Change(
            audience=audience, why=Why.BECAUSE, details={"before": before.because, "now": entry.because}
        )
    return Change(audience=audience, why=Why.POLICY)


def _fields(before: Item | None, now: Item, policy: CopyPolicy) -> dict[str, list[object]]:
    """Return [before, now] for each changed field that texts may use."""
    was = {} if before is None else before.part(policy.fields)
    is_now = now.part(policy.fields)
    names = [name for name in policy.fields if was.get(name) != is_now.get(name)]
    return {name: [was.get(name), is_now.get(name)] for name in names}
