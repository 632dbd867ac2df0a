"""Determines from the lists which audiences get a text and about which items, by the copy policy's scope."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.lists import RankedItem, UserList
from kinds.recommendation.ranking.rules import Rules
from kinds.recommendation.ranking.segments import NEW, OTHER
from kinds.recommendation.releases.release import audience_of, shown_items
from kinds.recommendation.texts.policy import Brief, CopyPolicy, CopyScope, Featured


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """A user, segment or item that has a text."""

    name: str
    item_ids: tuple[str, ...]
    """Sorted ids of the items that the text is about."""
    because: str | None
    """Basis of the reason, in words."""


def audiences(
    lists: Iterable[Sequence[UserList]], items: Mapping[str, Item], policy: CopyPolicy, rules: Rules
) -> Iterator[Audience]:
    """Yield the audiences of these blocks of lists, each name once; blocks are read one after the other."""
    match policy.scope:
        case CopyScope.USER:
            for block in lists:
                yield from (_of_user(one, items, policy, rules) for one in block if one.items)
        case CopyScope.SEGMENT:
            yield from _of_segments(lists, policy, rules)
        case CopyScope.ITEM:
            shown = {ranked.item_id for block in lists for one in block for ranked in shown_items(one, rules)}
            for item_id in sorted(shown):
                name = audience_of(CopyScope.ITEM, item_id)
                yield Audience(name=name, item_ids=(item_id,), because=None)
        case CopyScope.NONE:
            return


def brief_of(audience: Audience, items: Mapping[str, Item], policy: CopyPolicy) -> Brief:
    """Return the brief with everything that the text may be made from."""
    featured = tuple(
        Featured(item_id=item_id, row=items[item_id].part(policy.fields)) for item_id in audience.item_ids
    )
    return Brief(audience=audience.name, items=featured, because=audience.because)


def _of_user(one: UserList, items: Mapping[str, Item], policy: CopyPolicy, rules: Rules) -> Audience:
    featured = shown_items(one, rules)[: policy.featured]
    return Audience(
        name=audience_of(CopyScope.USER, one.user_id),
        item_ids=tuple(sorted(ranked.item_id for ranked in featured)),
        because=_because(featured, items),
    )


def _because(featured: Sequence[RankedItem], items: Mapping[str, Item]) -> str | None:
    """Return the title of the history item that explains the first featured item with such a reason."""
    for ranked in featured:
        because = items.get(ranked.reason.because or "")
        if because is not None:
            return because.title
    return None


def _of_segments(lists: Iterable[Sequence[UserList]], policy: CopyPolicy, rules: Rules) -> Iterator[Audience]:
    """Yield segments with the items at the top of their users' lists, by discounted rank.

    The discount is that of DCG (Järvelin 2002).
    """
    gains: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for block in lists:
        for one in block:
            gain = gains[one.segment]
            for rank, ranked in enumerate(shown_items(one, rules)):
                gain[ranked.item_id] += 1 / math.log2(rank + 2)
    for segment in sorted(gains):
        best = sorted((-round(gain, 6), item_id) for item_id, gain in gains[segment].items())
        if best:
            yield Audience(
                name=audience_of(CopyScope.SEGMENT, segment),
                item_ids=tuple(sorted(item_id for _, item_id in best[: policy.featured])),
                because=None if segment in (NEW, OTHER) else segment,
            )
