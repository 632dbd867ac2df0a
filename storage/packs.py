"""Packs: many small artifacts and statements stored as one object, from which each is read by its range.

A pack is a ZIP archive without compression, so that any tool can list and unpack it. It is immutable, and its
key is the digest of its content. Pressroom itself never reads the archive's directory: it reads a part by the
offset and length in Postgres, and checks the part against its own digest.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

from storage.store import Store

PREFIX = "packs/"
"""Prefix of the keys of all packs."""

MEDIA_TYPE = "application/zip"

MAX_PART_BYTES = 256 * 1024
"""Maximum size of a part. A larger body is stored as a separate object, which can be read without Postgres;
the request for it costs little compared with the transfer of so many bytes."""

MAX_JOB_BYTES = 4 * 1024 * 1024
"""Maximum total size of the parts of one job; its further artifacts become objects of their own."""

MAX_PACK_BYTES = 16 * 1024 * 1024
"""Total size of the parts at which a pack is complete; the parts of the last job may push a pack above it. It
limits how much is sent again after a failed upload."""

MAX_GAP_BYTES = 64 * 1024
"""Maximum number of unneeded bytes between two parts that one request reads. Reading them takes less time
than another request."""

MAX_SPAN_BYTES = 4 * 1024 * 1024
"""Maximum length of a range that one request reads, which bounds the memory of a reader."""

_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of each entry: the earliest that the format allows. It is fixed, so that equal parts always make the
same pack, with the same digest as its key."""

_LOCAL_HEADER_BYTES = 30
"""Length of an entry's header before its name and its extra field (APPNOTE.TXT 4.3.7)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A body to be packed, and the name of its entry, which is unique in the pack."""

    name: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that can be stored, with the offset of each part in it."""

    key: str
    body: bytes
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where bytes are stored: a whole object, or a part of a pack."""

    key: str
    num_bytes: int
    offset: int | None = None
    """Offset in the pack; None for a whole object."""

    def __str__(self) -> str:
        """Return the key, followed for a part by its range in the form of an HTTP Range header.

        >>> print(Place("packs/ab/abcd", 100, 38))
        packs/ab/abcd bytes=38-137
        """
        return self.key if self.offset is None else f"{self.key} {self.range}"

    @property
    def range(self) -> str:
        """Range of the bytes in the form of an HTTP Range header."""
        start = self.offset or 0
        return f"bytes={start}-{start + self.num_bytes - 1}"


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a pack, or a whole object, that one request reads for several places."""

    key: str
    offset: int | None
    num_bytes: int
    indices: tuple[int, ...]
    """Indices of the places that it covers."""


def pack_key(sha256: str) -> str:
    """Return the key of a pack, in a folder named after the first two digits, as for artifacts.

    >>> pack_key("ab" * 32)[:13]
    'packs/ab/abab'
    """
    return f"{PREFIX}{sha256[:2]}/{sha256}"


def build_pack(parts: Iterable[Part]) -> Pack:
    """Return the pack of these parts, in their order.

    >>> pack = build_pack([Part("a", b"first"), Part("b", b"second")])
    >>> pack.body[pack.offsets[1] :][:6]
    b'second'
    """
    buffer = io.BytesIO()
    offsets: list[int] = []
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in parts:
            entry = zipfile.ZipInfo(part.name, _DATE)
            archive.writestr(entry, part.body)
            offsets.append(entry.header_offset + _LOCAL_HEADER_BYTES + len(part.name.encode()))
    body = buffer.getvalue()
    return Pack(pack_key(hashlib.sha256(body).hexdigest()), body, tuple(offsets))


def plan_reads(places: Sequence[Place]) -> list[Span]:
    """Return the ranges to read so that neighbouring parts of a pack share one request.

    Each whole object has its own span, which all places with its key share.

    >>> [span.num_bytes for span in plan_reads([Place("p", 5, 100), Place("p", 7, 110), Place("q", 3)])]
    [17, 3]
    """
    spans: list[Span] = []
    for index in sorted(range(len(places)), key=lambda index: _order(places[index])):
        place = places[index]
        last = spans[-1] if spans else None
        joined = None if last is None else _joined(last, place, index)
        if joined is None:
            spans.append(Span(place.key, place.offset, place.num_bytes, (index,)))
        else:
            spans[-1] = joined
    return spans


def _order(place: Place) -> tuple[str, int]:
    return place.key, -1 if place.offset is None else place.offset


def _joined(span: Span, place: Place, index: int) -> Span | None:
    """Return the span extended to the place, or None if the place needs a separate request."""
    if span.key != place.key or (span.offset is None) != (place.offset is None):
        return None
    if span.offset is not None and span.offset < 0:
        return None
    indices = (*span.indices, index)
    if span.offset is None or place.offset is None:
        return Span(span.key, None, max(span.num_bytes, place.num_bytes), indices)
    num_bytes = max(span.num_bytes, place.offset + place.num_bytes - span.offset)
    if place.offset - (span.offset + span.num_bytes) > MAX_GAP_BYTES or num_bytes > MAX_SPAN_BYTES:
        return None
    return Span(span.key, span.offset, num_bytes, indices)


Read = Callable[[], bytes]
"""Function that waits for the bytes of a place and returns them. The bytes are not checked, and are fewer
than `Place.num_bytes` if the object is too short. Raises ObjectNotFoundError or StoreError."""


def begin_reads(store: Store, executor: Executor, places: Sequence[Place]) -> list[Read]:
    """Start reading the places with as few requests as possible; return a Read for each place, in order."""
    reads: dict[int, Read] = {}
    for span in plan_reads(places):
        future = executor.submit(_read_span, store, span, places)
        reads.update((index, partial(_result, future, index)) for index in span.indices)
    return [reads[index] for index in range(len(places))]


def _result(future: Future[dict[int, bytes]], index: int) -> bytes:
    return future.result()[index]


def _read_span(store: Store, span: Span, places: Sequence[Place]) -> dict[int, bytes]:
    """Read a span, and return the bytes of each place that it covers, keyed by the place's index."""
    if span.offset is None:
        body = store.get(span.key)
        return dict.fromkeys(span.indices, body)
    if span.offset < 0 or span.num_bytes < 0:  # a row was altered
        return dict.fromkeys(span.indices, b"")
    body = store.get_range(span.key, span.offset, span.num_bytes)
    read = {}
    for index in span.indices:
        start = (places[index].offset or 0) - span.offset
        read[index] = body[start : start + places[index].num_bytes]
    return read
