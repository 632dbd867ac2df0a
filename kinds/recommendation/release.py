"""A release: the digests of the lists and texts that a recommender publishes, and a reader of them."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from jobs.errors import PermanentError
from jobs.validation import describe_first
from kinds.recommendation.catalogue.interactions import UserBlock, read_block_bytes
from kinds.recommendation.catalogue.item import Item, read_catalogue_bytes
from kinds.recommendation.ranking.lists import RankedItem, UserList, read_lists_bytes
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.texts.text import Text, TextPolicy, TextScope

Sha256 = str


class ReleaseMalformedError(PermanentError):
    """A manifest or a text index is not in the format that this version of Pressroom writes."""

    code = "release_malformed"


class ReleasedBlock(BaseModel):
    """The lists of one block of users."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interactions_sha256: Sha256
    basis: Sha256
    """Digest of everything that the lists depend on, except the interactions."""
    lists_sha256: Sha256
    """Digest of the file that kinds.recommendation.ranking.lists.read_lists_bytes reads."""
    num_users: int = Field(ge=0)
    text_index_sha256: Sha256 | None = None
    """Digest of the text index of this block's users; None unless texts are per user."""


class ReleaseCounts(BaseModel):
    """Figures of a release, stored so that they need not be counted again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_users: int = 0
    num_items: int = 0
    """Number of items in the catalogue."""
    num_interactions: int = 0
    num_users_ranked: int = 0
    """Number of users ranked for this release; the others keep their lists from the previous release."""
    num_texts_written: int = 0
    num_texts_carried: int = 0
    num_texts_failed: int = 0
    """Number of texts whose job failed; readers get the plain template instead."""


class ReleaseManifest(BaseModel):
    """Manifest of a release, which is stored as a resource in canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recommender: str | None = None
    """Name of the recommender that made the release; None for a single run."""
    recommender_id: str | None = None
    created_at: AwareDatetime
    as_of: AwareDatetime
    """Instant at which availability and age are judged."""
    inputs_sha256: Sha256
    catalogue_sha256: Sha256
    model_sha256: Sha256
    """Digest of the fitted ranking model."""
    fitted_inputs_sha256: Sha256
    """Digest of the inputs that the model was fitted to. They are older than those of `inputs_sha256` if the
    model was carried over."""
    vectors_sha256: Sha256 | None = None
    embedder: str | None = None
    code: str = ""
    """Digest of the parts of Pressroom that the release depends on."""
    fit_version: int = 0
    rules: Rules
    ranking: RankingSettings
    text_policy: TextPolicy
    language_model: str | None = None
    """Name of the language model; None if no texts were requested."""
    language_model_digest: str = ""
    """Digest of the language model's files."""
    blocks: tuple[ReleasedBlock, ...]
    """Blocks in order of their number; their count is a power of two, see catalogue.interactions.block_of."""
    text_index_sha256: Sha256 | None = None
    """Digest of the text index of segments or items; None if texts are per user or were not requested."""
    counts: ReleaseCounts = ReleaseCounts()


class TextEntry(BaseModel):
    """The text of an audience; the index has an entry whether or not the text could be written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Sha256
    """Key of the text in the table `texts`."""
    items: tuple[str, ...]
    """Ids of the items that the text is about; once one of them is withdrawn, the text is no longer shown."""
    because: str | None = None
    """Title or category on which the reason is based, see TextRequest."""


TextIndex = Mapping[str, TextEntry]
"""Entries by audience: "user:ann", "segment:tents", "item:17"."""

_INDEX = TypeAdapter(dict[str, TextEntry])


def audience_of(scope: TextScope, name: str) -> str:
    """Return the name of an audience in a text index.

    >>> audience_of(TextScope.SEGMENT, "tents")
    'segment:tents'
    """
    return f"{scope.value}:{name}"


def manifest_bytes(manifest: ReleaseManifest) -> bytes:
    """Return the manifest as canonical JSON (RFC 8785)."""
    return rfc8785.dumps(manifest.model_dump(mode="json"))


def read_manifest(body: bytes) -> ReleaseManifest:
    """Return the manifest. Raises ReleaseMalformedError."""
    try:
        return ReleaseManifest.model_validate_json(body)
    except ValidationError as error:
        reason = describe_first(error)
        raise ReleaseMalformedError(f"the manifest of a release cannot be read: {reason}") from error


def text_index_bytes(index: TextIndex) -> bytes:
    """Return the index as JSON with one line per audience, sorted so that equal entries give equal bytes."""
    lines = (
        f"{json.dumps(audience, ensure_ascii=False)}:{index[audience].model_dump_json()}"
        for audience in sorted(index)
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_text_index(body: bytes) -> TextIndex:
    """Return the text index. Raises ReleaseMalformedError."""
    try:
        return _INDEX.validate_json(body)
    except ValidationError as error:
        reason = describe_first(error)
        raise ReleaseMalformedError(f"the text index of a release cannot be read: {reason}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLists:
    """One block of a release, in memory."""

    number: int
    block: ReleasedBlock
    lists: list[UserList]
    text_index: TextIndex
    """Text index of this block's users; empty unless texts are per user."""


@dataclass(slots=True, kw_only=True)
class ReleaseReader:
    """Reads a release by the digests of its manifest. It is not thread-safe."""

    manifest: ReleaseManifest
    number: int
    """Number of the release within its recommender, from 1."""
    read: Callable[[Sha256], bytes]
    """Function that returns the bytes with the given digest, after checking them against the digest."""
    texts: Callable[[Collection[Sha256]], Mapping[Sha256, Text]]
    """Function that returns the stored texts by key, without keys that have no text."""
    withdrawn: frozenset[str] = frozenset()
    """Ids of items that are no longer shown: they are unavailable, expired, or gone from the catalogue."""
    _items: Mapping[str, Item] | None = field(default=None, init=False)
    _index: TextIndex | None = field(default=None, init=False)

    def block(self, number: int) -> BlockLists:
        """Return the block with this number."""
        block = self.manifest.blocks[number]
        index = block.text_index_sha256
        return BlockLists(
            number=number,
            block=block,
            lists=read_lists_bytes(self.read(block.lists_sha256)),
            text_index={} if index is None else read_text_index(self.read(index)),
        )

    def blocks(self) -> Iterator[BlockLists]:
        """Yield all blocks in order of their number, one in memory at a time."""
        return map(self.block, range(len(self.manifest.blocks)))

    def catalogue(self) -> Mapping[str, Item]:
        """Return the items by id as they were when the release was made; the result is cached."""
        if self._items is None:
            body = self.read(self.manifest.catalogue_sha256)
            self._items = {item.id: item for item in read_catalogue_bytes(body)}
        return self._items

    def text_index(self) -> TextIndex:
        """Return the text index of segments or items; it is cached, and empty if texts are per user."""
        if self._index is None:
            index = self.manifest.text_index_sha256
            self._index = {} if index is None else read_text_index(self.read(index))
        return self._index

    def interactions(self, number: int) -> UserBlock:
        """Return the interactions of the users of a block."""
        return read_block_bytes(self.read(self.manifest.blocks[number].interactions_sha256))

    def find_texts(self, keys: Collection[Sha256]) -> Mapping[Sha256, Text]:
        """Return the texts of these keys; a key without a text is left out."""
        return self.texts(keys) if keys else {}


def shown_items(
    user: UserList, rules: Rules, withdrawn: Collection[str] = frozenset()
) -> tuple[RankedItem, ...]:
    """Return the items that a user sees: the first `list_length` items that are not withdrawn.

    Items of the reserve take the places of withdrawn items.

    >>> from kinds.recommendation.ranking.lists import Reason, ReasonKind
    >>> items = [RankedItem(item_id=i, score=1, reason=Reason(kind=ReasonKind.POPULAR)) for i in "abc"]
    >>> shown = shown_items(UserList(user_id="ann", segment="s", items=items), Rules(list_length=2), {"a"})
    >>> [item.item_id for item in shown]
    ['b', 'c']
    """
    left = [item for item in user.items if item.item_id not in withdrawn]
    return tuple(left[: rules.list_length])


MAX_HISTORY = 8
"""Default number of items of a user's history that `recent_items` returns."""


def recent_items(block: UserBlock, user_id: str, limit: int = MAX_HISTORY) -> tuple[str, ...]:
    """Return the ids of a user's items, newest first or by weight if there are no times, at most `limit`."""
    place = bisect_left(block.user_ids, user_id)
    if place == len(block.user_ids) or block.user_ids[place] != user_id:
        return ()
    entries = slice(block.indptr[place], block.indptr[place + 1])
    items, times, weights = block.items[entries], block.times[entries], block.weights[entries]
    newest = np.lexsort((items, -weights, -times))[:limit]
    return tuple(block.item_ids[item] for item in items[newest])
