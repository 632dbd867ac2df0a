"""Which documents of a reading are the same document, and which only share an id.

An id that several items of one reading share names none of them: such items are named by the id together with
what tells them apart. Two versions of one document share an id, too, and are known by this: they have one
title, and were published at different times. More than a few of these are no versions: their column holds one
value for all, or the page on which all items stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from jobs.documents.document import Document, derived_id, version_number

_PREFIX = "shared-"
_DIGITS_OF_ID = 16
SHARED_PREFIX_CHARACTERS = len(_PREFIX) + _DIGITS_OF_ID
_TITLE_BITS = 32
_TITLE_MASK = 2**_TITLE_BITS - 1
_DIGEST_BITS = 64
"""Of a version's number, below its time (digest.version_number)."""
_MAX_VERSIONS = 3
"""Of one document in one reading: texts are corrected once or twice. More of one id only share it."""
_PLACEHOLDERS = frozenset({"null", "none", "nan", "n/a", "na", "#n/a", "nil", "undefined", "unknown", "-"})
"""What programs write where there is no id, in lower case."""


def shared_prefix(shared_id: str) -> str:
    """How the ids of all items begin that share this one."""
    return _PREFIX + hashlib.sha256(shared_id.encode()).hexdigest()[:_DIGITS_OF_ID]


def apart(document: Document, link: str = "") -> Document:
    """The document under an id of its own: made of the shared one and its link, else of its content."""
    shared = document.shared_id or document.id
    published_at, symbols = document.published_at.isoformat(), "\0".join(sorted(document.symbols or ()))
    content = link or derived_id(document.source, document.title, document.text, published_at) + symbols
    tail = hashlib.sha256(content.encode()).hexdigest()[:32]
    return document.model_copy(update={"id": f"{shared_prefix(shared)}-{tail}", "shared_id": shared})


def is_link(id_: str) -> bool:
    """Whether an id is a web address: pages are named by it, and so are all items of a page."""
    return id_.startswith(("http://", "https://"))


def is_placeholder(id_: str) -> bool:
    """Whether a text stands for the absence of an id.

    >>> is_placeholder("N/A"), is_placeholder("0")
    (True, False)
    """
    return id_.lower() in _PLACEHOLDERS


class Identities:
    """Names the documents of a reading, and tells which of them are new. Not for several threads at once."""

    def __init__(self, *, is_snapshot: bool = False) -> None:
        """`is_snapshot`: the source holds each document once, so that two with one id are never versions."""
        self._is_snapshot = is_snapshot
        self._told: dict[int, int] = {}
        """By hash of an id the version that counts and the hash of its title in one number."""
        self._shared: set[int] = set()
        """Hashes of ids that several documents have."""
        self._versions: dict[int, set[int]] = {}
        """By hash of an id that has several versions, these."""
        self.num_duplicates = 0
        """The same id with the same content."""
        self.num_superseded = 0
        """The same id with an earlier version than one that was read before."""
        self.num_corrections = 0
        """The same id with a later version: it takes the place of the one that was read before."""
        self.num_shared = 0
        """Documents that were named otherwise, since others of the reading have the same id."""
        self.example: str | None = None
        """An id that is shared."""
        self.corrected: str | None = None
        """An id that has several versions."""

    def new(self, documents: Sequence[Document], link_of: Callable[[int], str]) -> list[Document | None]:
        """Each document under an id that is no other's; None for what was read before, or is replaced.

        `link_of` tells the web address of the document at a place, where its id is another.
        """
        different = _merged(documents) if any(document.symbols for document in documents) else documents
        named = {n: document for n, document in enumerate(different) if document is not None}
        self.num_duplicates += len(documents) - len(named)
        versions = {n: version_number(document) for n, document in named.items()}
        self._find_shared(named.values(), versions.values())
        shared = [n for n, document in named.items() if hash(document.id) in self._shared]
        links = _unique({n: link_of(n) for n in shared}, versions)
        new = {n: self._new(document, versions[n], links.get(n)) for n, document in named.items()}
        return [new.get(n) for n in range(len(documents))]

    def report(self, name: str) -> str | None:
        """What to tell of ids that are shared, in one line."""
        if not self.num_shared:
            return None
        return (
            f"{name}: {self.num_shared:,} documents share their id with others, such as {self.example!r}: "
            "they are told apart by link, title, time and text"
        )

    def report_versions(self, name: str) -> str | None:
        """What to tell of documents that are taken for versions of others, in one line."""
        num_replaced = self.num_corrections + self.num_superseded
        if num_replaced < 2:  # a correction, as every source has them
            return None
        return (
            f"{name}: {num_replaced:,} documents are replaced by later versions with their id, such as "
            f"{self.corrected!r}: map another column as the id if they are documents of their own"
        )

    def _find_shared(self, documents: Iterable[Document], versions: Iterable[int]) -> None:
        first: dict[int, int] = {}
        for document, version in zip(documents, versions, strict=True):
            key, own = hash(document.id), version << _TITLE_BITS | _title(document)
            other = first.setdefault(key, self._told.get(key, own))
            if other == own or key in self._shared:
                continue
            seen = self._versions.setdefault(key, {other})
            seen.add(own)
            if len(seen) > _MAX_VERSIONS or self._is_conflict(other, own, is_link(document.id)):
                self._shared.add(key)
                del self._versions[key]

    def _is_conflict(self, first: int, other: int, is_link: bool) -> bool:
        """Whether these two, of one id, cannot be versions of one document."""
        titles = {first & _TITLE_MASK, other & _TITLE_MASK}
        if self._is_snapshot or (len(titles) == 2 and 0 not in titles):
            return True
        first_at, other_at = first >> _TITLE_BITS + _DIGEST_BITS, other >> _TITLE_BITS + _DIGEST_BITS
        return first_at == other_at or (is_link and titles == {0})

    def _new(self, document: Document, version: int, link: str | None) -> Document | None:
        key, own = hash(document.id), version << _TITLE_BITS | _title(document)
        if key in self._shared and self._told.get(key) != own:
            self.num_shared += 1
            self.example = self.example or document.id
            document = apart(document, link or "")
            key = hash(document.id)
        told = self._told.get(key)
        if told is None or told >> _TITLE_BITS < version:
            self._told[key] = own
            if told is not None:
                self.num_corrections += 1
                self.corrected = self.corrected or document.id
            return document
        if told == own:
            self.num_duplicates += 1
        else:
            self.num_superseded += 1
            self.corrected = self.corrected or document.id
        return None


def _title(document: Document) -> int:
    """A hash of it whatever its case and spaces; 0 where there is none."""
    return hash(" ".join(document.title.lower().split())) & _TITLE_MASK if document.title else 0


def _merged(documents: Sequence[Document]) -> list[Document | None]:
    """Archives have a row for each symbol of a text: the first row gets them all, and the others are None."""
    merged: list[Document | None] = list(documents)
    first: dict[tuple[object, ...], int] = {}
    for number, document in enumerate(documents):
        place = first.setdefault((document.id, document.title, document.text, document.published_at), number)
        kept = merged[place]
        if place == number or kept is None or not document.symbols or not kept.symbols:
            continue
        symbols = tuple(sorted({*kept.symbols, *document.symbols}))
        merged[place], merged[number] = kept.model_copy(update={"symbols": symbols}), None
    return merged


def _unique(links: Mapping[int, str], versions: Mapping[int, int]) -> dict[int, str]:
    """Return those places whose link no document of other content has."""
    versions_of: dict[str, set[int]] = {}
    for number, link in links.items():
        versions_of.setdefault(link, set()).add(versions[number])
    return {number: link for number, link in links.items() if link and len(versions_of[link]) == 1}
