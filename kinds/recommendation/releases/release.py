"""What a refresh publishes: which lists and which texts, by digest; and how both are read again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from jobs.errors import PermanentError
from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.lists import RankedItem, UserList
from kinds.recommendation.ranking.rules import Rules
from kinds.recommendation.ranking.settings import RankingSettings
from kinds.recommendation.texts.policy import CopyPolicy, CopyScope, CopyText

Sha256 = str


class ReleaseMalformedError(PermanentError):
    """A manifest or a copy index is not what this version of Pressroom writes."""

    code = "release_malformed"


class ReleasedBlock(BaseModel):
    """The lists of one block of users."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interactions_sha256: Sha256
    basis: Sha256
    """Digest of all that the lists depend on besides the interactions."""
    lists_sha256: Sha256
    """What kinds.recommendation.ranking.lists_file.read_lists_bytes reads."""
    num_users: int = Field(ge=0)
    copy_index_sha256: Sha256 | None = None
    """A copy index of this block's users, where texts are per user."""


class ReleaseCounts(BaseModel):
    """Figures of a release that no one must count again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_users: int = 0
    num_items: int = 0
    """Of the catalogue."""
    num_interactions: int = 0
    num_users_ranked: int = 0
    """The others' lists are those of the release before."""
    num_texts_written: int = 0
    num_texts_carried: int = 0
    num_texts_failed: int = 0
    """Audiences whose job failed: readers get the plain template."""


class ReleaseManifest(BaseModel):
    """A release; a resource itself, as canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh: str | None = None
    """Name of the standing refresh that it is of; None for a single run."""
    refresh_id: str | None = None
    created_at: AwareDatetime
    as_of: AwareDatetime
    """Availability and age are judged by this moment."""
    inputs_sha256: Sha256
    catalogue_sha256: Sha256
    model_sha256: Sha256
    """The fitted ranking model."""
    fitted_inputs_sha256: Sha256
    """What it was fitted to: older inputs, where it was carried over."""
    vectors_sha256: Sha256 | None = None
    embedder: str | None = None
    code: str = ""
    """Digest of what of Pressroom itself it depends on."""
    fit_version: int = 0
    rules: Rules
    ranking: RankingSettings
    copy_policy: CopyPolicy
    language_model: str | None = None
    """Its name; None where no text was asked for."""
    language_model_digest: str = ""
    """Of its files."""
    blocks: tuple[ReleasedBlock, ...]
    """By number; a power of two of them, see kinds.recommendation.catalogue.interactions.block_of."""
    copy_index_sha256: Sha256 | None = None
    """A copy index of segments or items; None where texts are per user, or not asked for."""
    counts: ReleaseCounts = ReleaseCounts()


class CopyEntry(BaseModel):
    """Which text an audience gets; in the index whether or not the text could be written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Sha256
    """Of the text, in the table `copies`."""
    items: tuple[str, ...]
    """What it is about: when one of them has left, the text is no longer shown."""
    because: str | None = None
    """As in Brief."""


CopyIndex = Mapping[str, CopyEntry]
"""By audience: "user:ann", "segment:tents", "item:17"."""

_INDEX = TypeAdapter(dict[str, CopyEntry])


def audience_of(scope: CopyScope, name: str) -> str:
    """The name of an audience in a copy index.

    >>> audience_of(CopyScope.SEGMENT, "tents")
    'segment:tents'
    """
    return f"{scope.value}:{name}"


def manifest_bytes(manifest: ReleaseManifest) -> bytes:
    """The manifest as canonical JSON (RFC 8785)."""
    return rfc8785.dumps(manifest.model_dump(mode="json"))


def read_manifest(body: bytes) -> ReleaseManifest:
    """The manifest. Raises ReleaseMalformedError."""
    try:
        return ReleaseManifest.model_validate_json(body)
    except ValidationError as error:
        raise ReleaseMalformedError(f"the manifest of a release cannot be read: {error}") from error


def copy_index_bytes(index: CopyIndex) -> bytes:
    """The index as JSON, ordered by audience, a line each: the same entries give the same bytes."""
    lines = (
        f"{json.dumps(audience, ensure_ascii=False)}:{index[audience].model_dump_json()}"
        for audience in sorted(index)
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_copy_index(body: bytes) -> CopyIndex:
    """The index. Raises ReleaseMalformedError."""
    try:
        return _INDEX.validate_json(body)
    except ValidationError as error:
        raise ReleaseMalformedError(f"the copy index of a release cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLists:
    """One block of a release, in memory."""

    number: int
    block: ReleasedBlock
    lists: list[UserList]
    copies: CopyIndex
    """Of this block's users; empty unless texts are per user."""


class ReleaseReader(Protocol):
    """Gives a release to whatever shows or exports it; see release_reader.StoredRelease."""

    @property
    def manifest(self) -> ReleaseManifest: ...

    @property
    def number(self) -> int:
        """Of its refresh, from 1: Postgres gave it when the release was made."""
        ...

    @property
    def withdrawn(self) -> frozenset[str]:
        """Items that left since: became unavailable, expired, or are gone from the catalogue."""
        ...

    def block(self, number: int) -> BlockLists:
        """One block."""
        ...

    def blocks(self) -> Iterator[BlockLists]:
        """All blocks by number, one in memory at a time."""
        ...

    def catalogue(self) -> Mapping[str, Item]:
        """The items by id, as they were when the release was made."""
        ...

    def copy_index(self) -> CopyIndex:
        """Texts of segments or items; empty where texts are per user."""
        ...

    def interactions(self, number: int) -> UserBlock:
        """What the users of a block had to do with."""
        ...

    def find_copies(self, keys: Collection[Sha256]) -> Mapping[Sha256, CopyText]:
        """The texts that are there of these keys; a key without one is left out."""
        ...


def shown_items(
    one: UserList, rules: Rules, withdrawn: Collection[str] = frozenset()
) -> tuple[RankedItem, ...]:
    """What a user sees: the first of the list that are still there; the reserve moves up.

    >>> from kinds.recommendation.ranking.lists import Reason, ReasonKind
    >>> items = [RankedItem(item_id=i, score=1, reason=Reason(kind=ReasonKind.POPULAR)) for i in "abc"]
    >>> shown = shown_items(UserList(user_id="ann", segment="s", items=items), Rules(list_length=2), {"a"})
    >>> [item.item_id for item in shown]
    ['b', 'c']
    """
    here = [item for item in one.items if item.item_id not in withdrawn]
    return tuple(here[: rules.list_length])
