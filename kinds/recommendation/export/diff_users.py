"""Compares the lists of two releases user by user, whatever their numbers of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kinds.recommendation.export.diff_causes import CERTAIN, Cause, Causes, Entries, entries_of
from kinds.recommendation.ranking.lists import UserList
from kinds.recommendation.ranking.rules import Rules
from kinds.recommendation.releases.release import BlockLists, CopyIndex, ReleaseReader, shown_items


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An item on one of two lists, or on both."""

    item_id: str
    rank_before: int | None
    rank_after: int | None
    causes: tuple[Cause, ...]
    """Causes of the change; empty if the place is the same apart from items that were added or removed."""

    @property
    def change(self) -> Literal["added", "removed", "moved"] | None:
        if self.rank_before is None:
            return "added"
        if self.rank_after is None:
            return "removed"
        return "moved" if self.causes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDiff:
    """A user whose list or segment has changed."""

    user_id: str
    change: Literal["new", "gone", "changed"]
    segment_before: str | None
    segment_after: str | None
    places: tuple[Place, ...]
    """All places, unchanged ones too: those of the later list by rank, then the removed ones."""

    def changed_places(self) -> list[Place]:
        """Return the places that have changed."""
        return [place for place in self.places if place.change is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPair:
    """Blocks of two releases that hold the same users; one of the two is a single block."""

    before: Sequence[int]
    after: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDiff:
    """Differences between the blocks of a pair."""

    num_before: int
    num_after: int
    users: list[UserDiff]
    num_texts_same: int
    """Texts of users in blocks that are identical; the copy indexes below have all other texts."""
    copies_before: CopyIndex
    copies_after: CopyIndex


def block_pairs(num_before: int, num_after: int) -> Iterator[BlockPair]:
    """Yield pairs of blocks with the same users.

    Both numbers are powers of two; doubling the number of blocks splits each into two consecutive ones.

    >>> [(list(pair.before), list(pair.after)) for pair in block_pairs(2, 4)]
    [([0], [0, 1]), ([1], [2, 3])]
    """
    num = min(num_before, num_after)
    for number in range(num):
        spans = (
            range(number * every // num, (number + 1) * every // num) for every in (num_before, num_after)
        )
        before, after = spans
        yield BlockPair(before=before, after=after)


def diff_pair(pair: BlockPair, before: ReleaseReader, after: ReleaseReader, causes: Causes) -> PairDiff:
    """Return the differences of a pair; identical blocks are not read, except to count their texts."""
    if _is_same(pair, before, after):
        return _unchanged(before, pair.before[0])
    olds, news = [before.block(n) for n in pair.before], [after.block(n) for n in pair.after]
    old_lists, new_lists = _by_user(olds), _by_user(news)
    old, new = _entries(pair, before, after)
    sides = (before.manifest.rules, after.manifest.rules)
    users = [
        found
        for user_id in sorted(old_lists.keys() | new_lists.keys())
        if (
            found := _user_diff(
                user_id, old_lists.get(user_id), new_lists.get(user_id), old, new, sides, causes
            )
        )
    ]
    return PairDiff(
        num_before=len(old_lists),
        num_after=len(new_lists),
        users=users,
        num_texts_same=0,
        copies_before=_copies(olds),
        copies_after=_copies(news),
    )


def _user_diff(
    user_id: str,
    was: UserList | None,
    now: UserList | None,
    old: Entries,
    new: Entries,
    rules: tuple[Rules, Rules],
    causes: Causes,
) -> UserDiff | None:
    """Return the user's differences, or None if list and segment are the same."""
    before = () if was is None else tuple(item.item_id for item in shown_items(was, rules[0]))
    after = () if now is None else tuple(item.item_id for item in shown_items(now, rules[1]))
    segments = (None if was is None else was.segment, None if now is None else now.segment)
    if before == after and segments[0] == segments[1]:
        return None
    return UserDiff(
        user_id=user_id,
        change="new" if was is None else "gone" if now is None else "changed",
        segment_before=segments[0],
        segment_after=segments[1],
        places=tuple(_places(before, after, old, new, user_id, causes)),
    )


def _is_same(pair: BlockPair, before: ReleaseReader, after: ReleaseReader) -> bool:
    if len(pair.before) != 1 or len(pair.after) != 1:
        return False
    old, new = before.manifest.blocks[pair.before[0]], after.manifest.blocks[pair.after[0]]
    return (
        old.lists_sha256 == new.lists_sha256
        and old.copy_index_sha256 == new.copy_index_sha256
        and before.manifest.rules.list_length == after.manifest.rules.list_length
    )


def _unchanged(before: ReleaseReader, number: int) -> PairDiff:
    block = before.manifest.blocks[number]
    num_texts = 0 if block.copy_index_sha256 is None else len(before.block(number).copies)
    return PairDiff(
        num_before=block.num_users,
        num_after=block.num_users,
        users=[],
        num_texts_same=num_texts,
        copies_before={},
        copies_after={},
    )


def _entries(pair: BlockPair, before: ReleaseReader, after: ReleaseReader) -> tuple[Entries, Entries]:
    """Return the entries of both sides; they are empty if the interactions are the same."""
    old = [before.manifest.blocks[n].interactions_sha256 for n in pair.before]
    new = [after.manifest.blocks[n].interactions_sha256 for n in pair.after]
    if old == new:
        return {}, {}
    return (
        {user: found for n in pair.before for user, found in entries_of(before.interactions(n)).items()},
        {user: found for n in pair.after for user, found in entries_of(after.interactions(n)).items()},
    )


def _places(
    before: Sequence[str], after: Sequence[str], old: Entries, new: Entries, user_id: str, causes: Causes
) -> Iterator[Place]:
    rank_before = {item_id: rank for rank, item_id in enumerate(before, start=1)}
    rank_after = {item_id: rank for rank, item_id in enumerate(after, start=1)}
    removed = {
        item_id: causes.of_removed(item_id, old, new, user_id)
        for item_id in before
        if item_id not in rank_after
    }
    is_place_free = any(CERTAIN & set(why) for why in removed.values())
    # Ranks are compared among items on both lists only, so that a removed item does not move the others
    stayed_before = [item_id for item_id in before if item_id in rank_after]
    stayed_after = [item_id for item_id in after if item_id in rank_before]
    moved = {new for old, new in zip(stayed_before, stayed_after, strict=True) if old != new}
    for item_id in after:
        if item_id not in rank_before:
            why = causes.of_added(item_id, old, new, user_id, is_place_free=is_place_free)
        else:
            why = causes.of_moved(old, new, user_id) if item_id in moved else ()
        yield Place(
            item_id=item_id,
            rank_before=rank_before.get(item_id),
            rank_after=rank_after[item_id],
            causes=why,
        )
    for item_id, why in removed.items():
        yield Place(item_id=item_id, rank_before=rank_before[item_id], rank_after=None, causes=why)


def _by_user(blocks: Sequence[BlockLists]) -> Mapping[str, UserList]:
    return {one.user_id: one for block in blocks for one in block.lists}


def _copies(blocks: Sequence[BlockLists]) -> CopyIndex:
    return {audience: entry for block in blocks for audience, entry in block.copies.items()}
