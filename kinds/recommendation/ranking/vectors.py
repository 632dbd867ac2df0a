"""Embeddings of items' texts by digest of the text, so that a known text is not embedded again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.item import AttributeValue, Item
from kinds.recommendation.ranking.arrays import pack_arrays, unpack_arrays

MAX_TEXT_CHARACTERS = 2000
"""Characters that are embedded, since sentence encoders read only the first 256 tokens."""

UNIT_TOLERANCE = 1e-5
"""Difference from length 1 below which a float32 vector counts as normalised."""

_KIND = "pressroom.item_vectors.1"


def text_of(item: Item) -> str:
    """Return the words of an item for embedding, without prices and dates, which say nothing of similarity.

    >>> text_of(Item(id="1", title="Fly 2", category="Tents", attributes={"brand": "Alp", "weight": 2.0}))
    'Fly 2. Tents. brand: Alp'
    """
    words = [item.title, item.category or ""]
    words += [f"{name}: {said}" for name, value in sorted(item.attributes.items()) if (said := _said(value))]
    words.append(item.text)
    text = ". ".join(" ".join(part[:MAX_TEXT_CHARACTERS].split()) for part in words if part.strip())
    return text[:MAX_TEXT_CHARACTERS]


def _said(value: AttributeValue) -> str:
    if isinstance(value, bool | float | int):
        return ""
    return value if isinstance(value, str) else ", ".join(value)


def text_digest(text: str) -> str:
    """Return the digest that identifies a text in ItemVectors."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class ItemVectors:
    """One float32 row per text, with length 1 or 0."""

    digests: tuple[str, ...]
    """Sorted digests of the texts."""
    rows: npt.NDArray[np.float32]
    """(num_texts, width)"""

    @classmethod
    def of(cls, vectors: Mapping[str, Sequence[float] | npt.NDArray[np.float32]]) -> ItemVectors:
        """Return the given vectors by digest, normalised to length 1."""
        digests = tuple(sorted(vectors))
        width = len(vectors[digests[0]]) if digests else 0
        rows = np.array([vectors[digest] for digest in digests], np.float32).reshape(len(digests), width)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[np.abs(lengths - 1) < UNIT_TOLERANCE] = 1  # scaling them again would change their bytes
        return cls(digests, np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))

    def without(self, digests: Iterable[str]) -> list[str]:
        """Return those of the digests that have no vector here, sorted."""
        return sorted(set(digests) - set(self.digests))

    def of_items(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """Return the rows of items, shape (items, width); an item whose text has no vector gets zeros."""
        place = {digest: number for number, digest in enumerate(self.digests)}
        found = np.array([place.get(text_digest(text_of(item)), -1) for item in items], np.int64)
        rows = np.zeros((len(items), self.rows.shape[1]), np.float32)
        rows[found >= 0] = self.rows[found[found >= 0]]
        return rows

    def to_bytes(self) -> bytes:
        """Return the vectors as bytes; equal vectors give equal bytes."""
        return pack_arrays(_KIND, {"digests": self.digests}, {"rows": self.rows})


def read_vectors_bytes(body: bytes) -> ItemVectors:
    """Return the vectors. Raises ArraysUnreadableError."""
    header, arrays = unpack_arrays(_KIND, body)
    return ItemVectors(tuple(header["digests"]), arrays["rows"])
