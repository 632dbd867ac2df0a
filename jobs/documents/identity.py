"""Decides which documents of a reading are versions of one document, and which only share an id.

An id that several items share does not identify any of them. Such items get new ids, made from the shared one
and from what distinguishes the items. Versions of a document share an id too, but they have the same title
and were published at different times. More than a few documents with the same id are not versions: their
source gives all items the same id, such as a fixed value or the address of the page that lists the items.
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
"""Number of bits in a version_number for the digest; the bits above them contain the time."""
_MAX_VERSIONS = 3
"""Maximum number of versions of a document in a reading; a text is rarely corrected more than twice. If more
documents have the same id, they count as different documents that share an id."""
_PLACEHOLDERS = frozenset({"null", "none", "nan", "n/a", "na", "#n/a", "nil", "undefined", "unknown", "-"})
"""Values that programs write in place of a missing id, in lower case."""


def shared_prefix(shared_id: str) -> str:
    """Return the prefix of the new ids that items get because they share this id."""
    return _PREFIX + hashlib.sha256(shared_id.encode()).hexdigest()[:_DIGITS_OF_ID]


def with_own_id(document: Document, link: str = "") -> Document:
    """Return the document with a new id, made from its shared id and from its link or else its content."""
    shared = document.shared_id or document.id
    published_at, symbols = document.published_at.isoformat(), "\0".join(sorted(document.symbols or ()))
    content = link or derived_id(document.source, document.title, document.text, published_at) + symbols
    tail = hashlib.sha256(content.encode()).hexdigest()[:32]
    return document.model_copy(update={"id": f"{shared_prefix(shared)}-{tail}", "shared_id": shared})


def is_link(id_: str) -> bool:
    """Return whether an id is a web address. Several items may share the address of the page that lists
    them."""
    return id_.startswith(("http://", "https://"))


def is_placeholder(id_: str) -> bool:
    """Return whether a text is a placeholder for a missing id.

    >>> is_placeholder("N/A"), is_placeholder("0")
    (True, False)
    """
    return id_.lower() in _PLACEHOLDERS


class Identities:
    """Gives the documents of a reading unique ids, and drops duplicates and old versions. Not thread-safe."""

    def __init__(self, *, is_snapshot: bool = False) -> None:
        """Start without documents.

        `is_snapshot` means that the source has each document once, so two documents with the same id are
        never versions.
        """
        self._is_snapshot = is_snapshot
        self._latest: dict[int, int] = {}
        """Latest version by hash of the id: its version number and the hash of its title, in one number."""
        self._shared: set[int] = set()
        """Hashes of ids that several documents share."""
        self._versions: dict[int, set[int]] = {}
        """Versions by hash of the id, for ids with several versions."""
        self.num_duplicates = 0
        """Number of documents that were dropped as duplicates of another one, or merged into it."""
        self.num_superseded = 0
        """Number of documents that were dropped because a later version had been read before."""
        self.num_corrections = 0
        """Number of documents that are later versions of one that was read before."""
        self.num_shared = 0
        """Number of documents that got a new id, because other documents of the reading have the same id."""
        self.example: str | None = None
        """An id that several documents share, for the report; None if there is none."""
        self.corrected: str | None = None
        """An id with several versions, for the report; None if there is none."""

    def new(self, documents: Sequence[Document], link_of: Callable[[int], str]) -> list[Document | None]:
        """Return each document with a unique id, or None for a duplicate or an old version.

        `link_of` returns the web address of the document at an index, or "" if the document has none or if
        its id is that address.
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
        """Return a message of one line about shared ids, or None if there are none."""
        if not self.num_shared:
            return None
        return (
            f"{name}: {self.num_shared:,} documents share their id with others, such as {self.example!r}; "
            "they are distinguished by link, title, time and text"
        )

    def report_versions(self, name: str) -> str | None:
        """Return a message of one line about replaced versions, or None if fewer than two were replaced."""
        num_replaced = self.num_corrections + self.num_superseded
        if num_replaced < 2:  # a single correction is normal in any source
            return None
        return (
            f"{name}: {num_replaced:,} documents are replaced by later versions with the same id, such as "
            f"{self.corrected!r}; map another column as the id if they are different documents"
        )

    def _find_shared(self, documents: Iterable[Document], versions: Iterable[int]) -> None:
        first: dict[int, int] = {}
        for document, version in zip(documents, versions, strict=True):
            key, own = hash(document.id), version << _TITLE_BITS | _title(document)
            other = first.setdefault(key, self._latest.get(key, own))
            if other == own or key in self._shared:
                continue
            seen = self._versions.setdefault(key, {other})
            seen.add(own)
            if len(seen) > _MAX_VERSIONS or self._is_conflict(other, own, is_link(document.id)):
                self._shared.add(key)
                del self._versions[key]

    def _is_conflict(self, first: int, other: int, is_link: bool) -> bool:
        """Return whether two documents with the same id cannot be versions of one document.

        `first` and `other` contain their version numbers and the hashes of their titles.
        """
        titles = {first & _TITLE_MASK, other & _TITLE_MASK}
        if self._is_snapshot or (len(titles) == 2 and 0 not in titles):
            return True
        first_at, other_at = first >> _TITLE_BITS + _DIGEST_BITS, other >> _TITLE_BITS + _DIGEST_BITS
        return first_at == other_at or (is_link and titles == {0})

    def _new(self, document: Document, version: int, link: str | None) -> Document | None:
        key, own = hash(document.id), version << _TITLE_BITS | _title(document)
        if key in self._shared and self._latest.get(key) != own:
            self.num_shared += 1
            self.example = self.example or document.id
            document = with_own_id(document, link or "")
            key = hash(document.id)
        latest = self._latest.get(key)
        if latest is None or latest >> _TITLE_BITS < version:
            self._latest[key] = own
            if latest is not None:
                self.num_corrections += 1
                self.corrected = self.corrected or document.id
            return document
        if latest == own:
            self.num_duplicates += 1
        else:
            self.num_superseded += 1
            self.corrected = self.corrected or document.id
        return None


def _title(document: Document) -> int:
    """Return a hash of the title that ignores case and white space; 0 if there is no title."""
    return hash(" ".join(document.title.lower().split())) & _TITLE_MASK if document.title else 0


def _merged(documents: Sequence[Document]) -> list[Document | None]:
    """Merge documents that differ only in their symbols.

    Archives have a row for each symbol of a text. The first document gets all symbols, and the others become
    None.
    """
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
    """Return the links that documents with different content do not share, by index of the document.

    Empty links are left out.
    """
    versions_of: dict[str, set[int]] = {}
    for number, link in links.items():
        versions_of.setdefault(link, set()).add(versions[number])
    return {number: link for number, link in links.items() if link and len(versions_of[link]) == 1}
