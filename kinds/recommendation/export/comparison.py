"""Compares the lists of two releases user by user, and finds the causes of what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Literal

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.export.rows import TextFinder
from kinds.recommendation.ranking.lists import UserList
from kinds.recommendation.ranking.settings import Rules
from kinds.recommendation.release import BlockLists, ReleaseManifest, ReleaseReader, TextIndex, shown_items
from kinds.recommendation.texts.plan import change_of
from kinds.recommendation.texts.text import Text


class Cause(StrEnum):
    """Cause of a change on a list."""

    GONE = "no longer in the catalogue"
    UNAVAILABLE = "no longer available"
    BLOCKED = "blocked by a rule"
    PRICE = "price changed"
    """Applies only if the rules have a price band."""
    OWN = "the user interacted with it since"
    NEW_ITEM = "new in the catalogue"
    AVAILABLE = "available again"
    UNBLOCKED = "no longer blocked"
    FILLS = "fills the place of a removed item"
    INTERACTIONS = "their interactions changed"
    RULES = "rules changed"
    RECIPE = "ranking settings changed"
    MODEL = "model refitted"
    CATALOGUE = "other items of the catalogue changed"
    LENGTH = "list length changed"
    UNKNOWN = "unknown"


Entries = frozenset[tuple[str, float, int]]
"""Item, weight and time of each interaction of a user."""


@dataclass(frozen=True, slots=True)
class UserPast:
    """A user's interactions at the time of each release; both empty if the user's block has not changed."""

    before: Entries = frozenset()
    after: Entries = frozenset()

    def has_new_item(self, item_id: str) -> bool:
        """Return whether the user first interacted with the item between the two releases."""
        return _has(self.after, item_id) and not _has(self.before, item_id)


def _has(entries: Entries, item_id: str) -> bool:
    return any(name == item_id for name, _, _ in entries)


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
        """Return the changes; availability is determined at the `as_of` of each release."""
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

    def of_removed(self, item_id: str, past: UserPast) -> tuple[Cause, ...]:
        """Return the certain cause of a removal if there is one, or else all possible causes."""
        item, rules = self._new.get(item_id), self._after.rules
        if item is None:
            return (Cause.GONE,)
        if not item.is_available(self._after.as_of):
            return (Cause.UNAVAILABLE,)
        if item_id in rules.blocked_items or item.category in rules.blocked_categories:
            return (Cause.BLOCKED,)
        if rules.exclude != "nothing" and past.has_new_item(item_id):
            return (Cause.OWN,)
        if self._has_band() and self._price_changed(item_id):
            return (Cause.PRICE,)
        return self.of_moved(past)

    def of_added(self, item_id: str, past: UserPast, *, is_place_free: bool) -> tuple[Cause, ...]:
        """Return the certain cause of an addition if there is one, or else all possible causes.

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
        possible = self.of_moved(past)
        if is_place_free:
            # The removal explains the free place, so a change of the catalogue is not a separate cause
            others = set(possible) - {Cause.CATALOGUE, Cause.UNKNOWN}
            return (Cause.FILLS, *(cause for cause in possible if cause in others))
        return possible

    def of_moved(self, past: UserPast) -> tuple[Cause, ...]:
        """Return all possible causes of an item's move to another rank."""
        own = (Cause.INTERACTIONS,) if past.before != past.after else ()
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


def entries_of(block: UserBlock) -> dict[str, Entries]:
    """Return the interactions of each user of a block."""
    entries = {}
    for place, user_id in enumerate(block.user_ids):
        span = slice(int(block.indptr[place]), int(block.indptr[place + 1]))
        names = (block.item_ids[item] for item in block.items[span].tolist())
        weights, times = block.weights[span].tolist(), block.times[span].tolist()
        entries[user_id] = frozenset(zip(names, weights, times, strict=True))
    return entries


def title_of(item_id: str, *catalogues: Mapping[str, Item]) -> str:
    """Return an item's title from the first catalogue that has it, or its id if none does."""
    return next((catalogue[item_id].title for catalogue in catalogues if item_id in catalogue), item_id)


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
    """All places, including unchanged ones: first those of the later list by rank, then the removed ones."""

    def changed_places(self) -> list[Place]:
        """Return the places that have changed."""
        return [place for place in self.places if place.change is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPair:
    """Block numbers, in two releases, that cover the same users.

    At least one of the releases has a single block for them.
    """

    before: Sequence[int]
    after: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDiff:
    """Differences between the blocks of a pair."""

    num_before: int
    num_after: int
    users: list[UserDiff]
    num_texts_same: int
    """Number of texts of identical blocks; the two text indexes contain the texts of blocks that differ."""
    texts_before: TextIndex
    texts_after: TextIndex


def block_pairs(num_before: int, num_after: int) -> Iterator[BlockPair]:
    """Yield pairs of blocks with the same users.

    Both numbers are powers of two; doubling the number of blocks splits each into two consecutive ones.

    >>> [(list(pair.before), list(pair.after)) for pair in block_pairs(2, 4)]
    [([0], [0, 1]), ([1], [2, 3])]
    """
    num = min(num_before, num_after)
    for number in range(num):
        before, after = (
            range(number * every // num, (number + 1) * every // num) for every in (num_before, num_after)
        )
        yield BlockPair(before=before, after=after)


def diff_pair(pair: BlockPair, before: ReleaseReader, after: ReleaseReader, causes: Causes) -> PairDiff:
    """Return the differences of a pair; identical blocks are not read, except to count their texts."""
    if _is_same(pair, before, after):
        return _unchanged(before, pair.before[0])
    olds, news = [before.block(n) for n in pair.before], [after.block(n) for n in pair.after]
    old_lists = {
        user.user_id: _Shown.of(user, before.manifest.rules) for block in olds for user in block.lists
    }
    new_lists = {
        user.user_id: _Shown.of(user, after.manifest.rules) for block in news for user in block.lists
    }
    pasts = _pasts(pair, before, after)
    users = (
        _user_diff(user_id, old_lists.get(user_id), new_lists.get(user_id), pasts(user_id), causes)
        for user_id in sorted(old_lists.keys() | new_lists.keys())
    )
    return PairDiff(
        num_before=len(old_lists),
        num_after=len(new_lists),
        users=[user for user in users if user is not None],
        num_texts_same=0,
        texts_before=_text_entries(olds),
        texts_after=_text_entries(news),
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """The list that a user sees in one release."""

    segment: str
    item_ids: tuple[str, ...]

    @classmethod
    def of(cls, user: UserList, rules: Rules) -> _Shown:
        return cls(user.segment, tuple(item.item_id for item in shown_items(user, rules)))


def _user_diff(
    user_id: str, before: _Shown | None, after: _Shown | None, past: UserPast, causes: Causes
) -> UserDiff | None:
    """Return the user's differences, or None if list and segment are the same."""
    if before == after:
        return None
    old, new = before.item_ids if before else (), after.item_ids if after else ()
    return UserDiff(
        user_id=user_id,
        change="new" if before is None else "gone" if after is None else "changed",
        segment_before=None if before is None else before.segment,
        segment_after=None if after is None else after.segment,
        places=tuple(_places(old, new, past, causes)),
    )


def _is_same(pair: BlockPair, before: ReleaseReader, after: ReleaseReader) -> bool:
    if len(pair.before) != 1 or len(pair.after) != 1:
        return False
    old, new = before.manifest.blocks[pair.before[0]], after.manifest.blocks[pair.after[0]]
    return (
        old.lists_sha256 == new.lists_sha256
        and old.text_index_sha256 == new.text_index_sha256
        and before.manifest.rules.list_length == after.manifest.rules.list_length
    )


def _unchanged(before: ReleaseReader, number: int) -> PairDiff:
    block = before.manifest.blocks[number]
    num_texts = 0 if block.text_index_sha256 is None else len(before.block(number).text_index)
    return PairDiff(
        num_before=block.num_users,
        num_after=block.num_users,
        users=[],
        num_texts_same=num_texts,
        texts_before={},
        texts_after={},
    )


def _pasts(pair: BlockPair, before: ReleaseReader, after: ReleaseReader) -> Callable[[str], UserPast]:
    """Return a function that returns a user's past; blocks with identical interactions are not read."""
    old = [before.manifest.blocks[n].interactions_sha256 for n in pair.before]
    new = [after.manifest.blocks[n].interactions_sha256 for n in pair.after]
    if old == new:
        return lambda _: UserPast()
    entries_before, entries_after = (
        {user: entries for n in numbers for user, entries in entries_of(reader.interactions(n)).items()}
        for numbers, reader in ((pair.before, before), (pair.after, after))
    )
    nothing: Entries = frozenset()
    return lambda user: UserPast(entries_before.get(user, nothing), entries_after.get(user, nothing))


def _places(before: Sequence[str], after: Sequence[str], past: UserPast, causes: Causes) -> Iterator[Place]:
    rank_before = {item_id: rank for rank, item_id in enumerate(before, start=1)}
    rank_after = {item_id: rank for rank, item_id in enumerate(after, start=1)}
    removed = {item_id: causes.of_removed(item_id, past) for item_id in before if item_id not in rank_after}
    is_place_free = any(CERTAIN & set(why) for why in removed.values())
    # Ranks are compared among items on both lists only, so that a removed item does not move the others
    stayed_before = [item_id for item_id in before if item_id in rank_after]
    stayed_after = [item_id for item_id in after if item_id in rank_before]
    moved = {new for old, new in zip(stayed_before, stayed_after, strict=True) if old != new}
    for item_id in after:
        if item_id not in rank_before:
            why = causes.of_added(item_id, past, is_place_free=is_place_free)
        else:
            why = causes.of_moved(past) if item_id in moved else ()
        yield Place(
            item_id=item_id,
            rank_before=rank_before.get(item_id),
            rank_after=rank_after[item_id],
            causes=why,
        )
    for item_id, why in removed.items():
        yield Place(item_id=item_id, rank_before=rank_before[item_id], rank_after=None, causes=why)


def _text_entries(blocks: Sequence[BlockLists]) -> TextIndex:
    return {audience: entry for block in blocks for audience, entry in block.text_index.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSummary:
    """Figures of the differences between two releases, over all users and texts."""

    before: int
    after: int
    """Number of the later release; `before` is the number of the earlier one."""
    num_users_before: int
    num_users_after: int
    num_users_new: int
    num_users_gone: int
    num_users_changed: int
    num_added: int
    num_removed: int
    num_moved: int
    """Number of places whose rank, counted only among the items on both lists, has changed."""
    causes: Sequence[Mapping[str, object]]
    """Numbers of changed places of users in both releases: {"change", "why", "places"}. If "why" has several
    causes, any or all of them may apply."""
    num_texts_new: int
    num_texts_changed: int
    num_texts_gone: int
    num_texts_carried: int
    text_reasons: Mapping[str, int]
    inputs: Sequence[str]
    """Causes that apply to all users."""
    catalogue: Mapping[str, int]

    @property
    def num_users_same(self) -> int:
        """Number of users with the same list and segment in both releases."""
        return self.num_users_after - self.num_users_new - self.num_users_changed

    def as_json(self) -> dict[str, object]:
        """Return the summary as JSON with stable names, as it is written to diff.json."""
        return {**asdict(self), "num_users_same": self.num_users_same}

    def __str__(self) -> str:
        return (
            f"release {self.before} to {self.after}: {self.num_users_changed:,} of {self.num_users_after:,} "
            f"users see a different list ({self.num_added:,} places added, {self.num_removed:,} removed, "
            f"{self.num_moved:,} moved), {self.num_users_new:,} users are new, "
            f"{self.num_users_gone:,} gone; texts: {self.num_texts_new:,} new, "
            f"{self.num_texts_changed:,} changed, {self.num_texts_carried:,} carried over"
        )


_AT_A_TIME = 500
"""Maximum number of texts that are looked up together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDiff:
    """An audience whose text has changed."""

    audience: str
    change: Literal["new", "gone", "changed"]
    why: str
    before: Text | None
    after: Text | None


class TextComparer:
    """Compares text indexes of two releases."""

    def __init__(self, before: ReleaseReader, after: ReleaseReader) -> None:
        self._before, self._after = before, after
        self._old, self._new = TextFinder(before), TextFinder(after)
        self.num_carried = 0

    def compare(self, before: TextIndex, after: TextIndex) -> Iterator[TextDiff]:
        """Yield the texts that differ, ordered by audience; texts that are carried over are only counted."""
        changed = []
        for audience in sorted(before.keys() | after.keys()):
            old, new = before.get(audience), after.get(audience)
            if old is not None and new is not None and old.key == new.key:
                self.num_carried += 1
            else:
                changed.append(audience)
        for start in range(0, len(changed), _AT_A_TIME):
            yield from self._compared(changed[start : start + _AT_A_TIME], before, after)

    def _compared(self, audiences: list[str], before: TextIndex, after: TextIndex) -> Iterator[TextDiff]:
        olds = self._old.find([audience for audience in audiences if audience in before], before)
        news = self._new.find([audience for audience in audiences if audience in after], after)
        for audience in audiences:
            is_old, is_new = audience in before, audience in after
            yield TextDiff(
                audience=audience,
                change="changed" if is_old and is_new else "new" if is_new else "gone",
                why=self._why(audience, before, after) if is_new else "audience no longer exists",
                before=olds.get(audience),
                after=news.get(audience),
            )

    def _why(self, audience: str, before: TextIndex, after: TextIndex) -> str:
        """Return the reason for a change, found in the same way as when a run plans its texts."""
        change = change_of(
            audience,
            after[audience],
            before.get(audience),
            self._after.catalogue(),
            self._before.catalogue(),
            self._after.manifest.text_policy,
        )
        return change.why.value
