"""Finds the differences between two releases that can have moved an item on or off a user's list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.releases.release import ReleaseManifest, ReleaseReader


class Cause(StrEnum):
    """Cause of a change on a list."""

    GONE = "no longer in the catalogue"
    UNAVAILABLE = "no longer available"
    BLOCKED = "blocked by a rule"
    PRICE = "price changed"
    """Applies only if the rules have a price band."""
    OWN = "they had to do with it meanwhile"
    NEW_ITEM = "new in the catalogue"
    AVAILABLE = "available again"
    UNBLOCKED = "blocked no more"
    FILLS = "fills the place of one that left"
    INTERACTIONS = "their interactions changed"
    RULES = "rules changed"
    RECIPE = "ranking settings changed"
    MODEL = "model refitted"
    CATALOGUE = "other items of the catalogue changed"
    LENGTH = "lists are longer or shorter"
    UNKNOWN = "cannot be told"


Entries = Mapping[str, frozenset[tuple[str, float, int]]]
"""Item, weight and time of each entry, by user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueChange:
    """Numbers of items that changed between two releases."""

    num_new: int
    num_gone: int
    num_unavailable: int
    num_available_again: int
    num_price_changed: int

    @classmethod
    def between(cls, before: ReleaseReader, after: ReleaseReader) -> CatalogueChange:
        """Return the changes; availability is judged by the `as_of` of each release."""
        old, new = before.catalogue(), after.catalogue()
        at_old, at_new = before.manifest.as_of, after.manifest.as_of
        both = old.keys() & new.keys()
        left = [i for i in both if old[i].is_available(at_old) and not new[i].is_available(at_new)]
        back = [i for i in both if not old[i].is_available(at_old) and new[i].is_available(at_new)]
        return cls(
            num_new=len(new.keys() - old.keys()),
            num_gone=len(old.keys() - new.keys()),
            num_unavailable=len(left),
            num_available_again=len(back),
            num_price_changed=sum(old[i].price != new[i].price for i in both),
        )


class Causes:
    """Finds the causes of changes between two releases."""

    def __init__(self, before: ReleaseReader, after: ReleaseReader) -> None:
        self._before, self._after = before.manifest, after.manifest
        self._old, self._new = before.catalogue(), after.catalogue()
        self._of_all = tuple(general_causes(self._before, self._after))

    def of_removed(self, item_id: str, old: Entries, new: Entries, user_id: str) -> tuple[Cause, ...]:
        """Return the one cause that is certain, or else all possible causes."""
        item, rules = self._new.get(item_id), self._after.rules
        if item is None:
            return (Cause.GONE,)
        if not item.is_available(self._after.as_of):
            return (Cause.UNAVAILABLE,)
        if item_id in rules.blocked_items or item.category in rules.blocked_categories:
            return (Cause.BLOCKED,)
        if rules.exclude != "nothing" and _has(new, user_id, item_id) and not _has(old, user_id, item_id):
            return (Cause.OWN,)
        if self._has_band() and self._price_changed(item_id):
            return (Cause.PRICE,)
        return self.of_moved(old, new, user_id)

    def of_added(
        self, item_id: str, old: Entries, new: Entries, user_id: str, *, is_place_free: bool
    ) -> tuple[Cause, ...]:
        """Return the causes of an addition, as `of_removed` does for a removal.

        `is_place_free` means that another item left the list for a cause that is certain.
        """
        item, rules = self._old.get(item_id), self._before.rules
        if item is None:
            return (Cause.NEW_ITEM,)
        if not item.is_available(self._before.as_of):
            return (Cause.AVAILABLE,)
        if item_id in rules.blocked_items or item.category in rules.blocked_categories:
            return (Cause.UNBLOCKED,)
        if self._has_band() and self._price_changed(item_id):
            return (Cause.PRICE,)
        possible = self.of_moved(old, new, user_id)
        if is_place_free:
            # The catalogue's change has freed the place, so it is not a separate cause
            others = set(possible) - {Cause.CATALOGUE, Cause.UNKNOWN}
            return (Cause.FILLS, *(cause for cause in possible if cause in others))
        return possible

    def of_moved(self, old: Entries, new: Entries, user_id: str) -> tuple[Cause, ...]:
        """Return all possible causes of a change in order."""
        own = (Cause.INTERACTIONS,) if old.get(user_id) != new.get(user_id) else ()
        return (*own, *self._of_all) or (Cause.UNKNOWN,)

    def _has_band(self) -> bool:
        bands = (self._before.rules.price, self._after.rules.price)
        return any(value is not None for band in bands for value in band.model_dump().values())

    def _price_changed(self, item_id: str) -> bool:
        old, new = self._old.get(item_id), self._new.get(item_id)
        return old is not None and new is not None and old.price != new.price


CERTAIN = frozenset({Cause.GONE, Cause.UNAVAILABLE, Cause.BLOCKED, Cause.OWN, Cause.PRICE})
"""Causes that certainly remove an item from a list and so free its place."""


def general_causes(before: ReleaseManifest, after: ReleaseManifest) -> list[Cause]:
    """Return the causes that apply to all users."""
    causes = []
    length = {"list_length": after.rules.list_length, "reserve": after.rules.reserve}
    if before.rules.model_copy(update=length) != after.rules:
        causes.append(Cause.RULES)
    if before.rules.list_length != after.rules.list_length:
        causes.append(Cause.LENGTH)
    if (before.ranking, before.embedder) != (after.ranking, after.embedder):
        causes.append(Cause.RECIPE)
    if before.model_sha256 != after.model_sha256:
        causes.append(Cause.MODEL)
    if before.catalogue_sha256 != after.catalogue_sha256:
        causes.append(Cause.CATALOGUE)
    return causes


def entries_of(block: UserBlock) -> Entries:
    """Return the interactions of each user of a block."""
    found = {}
    for place, user_id in enumerate(block.user_ids):
        span = slice(int(block.indptr[place]), int(block.indptr[place + 1]))
        names = (block.item_ids[item] for item in block.items[span].tolist())
        weights, times = block.weights[span].tolist(), block.times[span].tolist()
        found[user_id] = frozenset(zip(names, weights, times, strict=True))
    return found


def _has(entries: Entries, user_id: str, item_id: str) -> bool:
    return any(name == item_id for name, _, _ in entries.get(user_id, ()))


def title_of(item_id: str, *catalogues: Mapping[str, Item]) -> str:
    """Return an item's title from the first catalogue that has it, or its id if none does."""
    return next((catalogue[item_id].title for catalogue in catalogues if item_id in catalogue), item_id)
