"""Similarity of items by text and attributes, for items without interactions and for diversity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import AttributeValue, Item
from kinds.recommendation.ranking.arrays import pack_arrays, unpack_arrays
from kinds.recommendation.ranking.fit import history_matrix

MAX_TEXT_CHARACTERS = 2000
"""Maximum number of characters to embed, since sentence encoders read only the first 256 tokens."""

UNIT_TOLERANCE = 1e-5
"""Difference from length 1 below which a float32 vector counts as normalised."""

_KIND = "pressroom.item_vectors.1"

Rows = npt.NDArray[np.float32]

CATEGORY = "category"

NUM_BINS = 10
"""Number of bins of a numeric attribute (pages, weight, year); numbers in one bin count as equal."""
MAX_TOKENS = 50_000
"""Maximum number of distinct words that are used if there are no vectors."""
_WORD = r"(?u)\w+"
TEXT_WIDTH = 48
VALUES_WIDTH = 16


def text_of(item: Item) -> str:
    """Return the text of an item for embedding.

    Prices and dates show no similarity and are left out, as are attributes that are numbers or Booleans.

    >>> text_of(Item(id="1", title="Fly 2", category="Tents", attributes={"brand": "Alp", "weight": 2.0}))
    'Fly 2. Tents. brand: Alp'
    """
    words = [item.title, item.category or ""]
    attributes = ((name, _words_of(value)) for name, value in sorted(item.attributes.items()))
    words += [f"{name}: {value}" for name, value in attributes if value]
    words.append(item.text)
    text = ". ".join(" ".join(part[:MAX_TEXT_CHARACTERS].split()) for part in words if part.strip())
    return text[:MAX_TEXT_CHARACTERS]


def _words_of(value: AttributeValue) -> str:
    if isinstance(value, bool | float | int):
        return ""
    return value if isinstance(value, str) else ", ".join(value)


def text_digest(text: str) -> str:
    """Return the digest that identifies a text in ItemVectors."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class ItemVectors:
    """Vectors of items' texts: one float32 row per text, with length 1 or 0."""

    digests: tuple[str, ...]
    """Sorted digests of the texts."""
    rows: npt.NDArray[np.float32]
    """(num_texts, width): vector of each text."""

    @classmethod
    def of(cls, vectors: Mapping[str, Sequence[float] | npt.NDArray[np.float32]]) -> ItemVectors:
        """Return the vectors, which are given by digest, normalised to length 1; zeros stay zeros."""
        digests = tuple(sorted(vectors))
        width = len(vectors[digests[0]]) if digests else 0
        rows = np.array([vectors[digest] for digest in digests], np.float32).reshape(len(digests), width)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[np.abs(lengths - 1) < UNIT_TOLERANCE] = 1  # scaling a unit row would change its bytes
        return cls(digests, np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))

    def without(self, digests: Iterable[str]) -> list[str]:
        """Return the digests that have no vector, sorted."""
        return sorted(set(digests) - set(self.digests))

    def of_items(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """Return the rows of items, shape (items, width); an item whose text has no vector gets zeros."""
        place = {digest: number for number, digest in enumerate(self.digests)}
        places = np.array([place.get(text_digest(text_of(item)), -1) for item in items], np.int64)
        rows = np.zeros((len(items), self.rows.shape[1]), np.float32)
        rows[places >= 0] = self.rows[places[places >= 0]]
        return rows

    def to_bytes(self) -> bytes:
        """Return the vectors as bytes; equal vectors give equal bytes."""
        return pack_arrays(_KIND, {"digests": self.digests}, {"rows": self.rows})


def read_vectors_bytes(body: bytes) -> ItemVectors:
    """Return the vectors. Raises ArraysUnreadableError."""
    header, arrays = unpack_arrays(_KIND, body)
    return ItemVectors(tuple(header["digests"]), arrays["rows"])


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Text and attributes of items as rows.

    The similarity of two items is text_share * text . text + (1 - text_share) * values . values.
    """

    text: Rows | sp.csr_matrix
    """(items, width): vectors, or words weighted by rarity; rows have length 1 or 0."""
    values: sp.csr_matrix
    """(items, values): attributes weighted by rarity; rows have length 1 or 0."""
    names: tuple[str, ...]
    """Attribute name of each column of `values`."""
    text_share: float


def content_of(items: Sequence[Item], vectors: ItemVectors | None, text_share: float) -> Content:
    """Return the content of items in their order; without vectors, the words of their texts are used."""
    values, names = _values(items)
    if not values.shape[1]:
        text_share = 1.0
    text = _words(items) if vectors is None or not len(vectors.rows) else vectors.of_items(items)
    return Content(text, values, names, text_share)


def diversity_features(content: Content) -> Rows:
    """Return features of shape (items, width); the product of two rows approximates the items' similarity.

    The rows are narrow, so that many of them can be compared.
    """
    parts = [
        _narrow(content.text, TEXT_WIDTH) * np.float32(np.sqrt(content.text_share)),
        _narrow(content.values, VALUES_WIDTH) * np.float32(np.sqrt(1 - content.text_share)),
    ]
    return np.ascontiguousarray(np.hstack(parts), np.float32)


def factors_by_content(features: Rows, factors: Rows, is_known: npt.NDArray[np.bool_], ridge: float) -> Rows:
    """Predict the factors (items, rank) of all items from their content, by ridge regression on known items.

    The method is that of Gantner et al. 2010, "Learning attribute-to-feature mappings for cold-start
    recommendations", 3.2, in closed form.
    """
    if not is_known.any() or not factors.shape[1]:
        return np.zeros_like(factors)
    inputs = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    known = inputs[is_known]
    penalty = np.full(inputs.shape[1], ridge)
    penalty[-1] = 1e-6 * len(known)  # practically no penalty on the mean
    weights = np.linalg.solve(known.T @ known + np.diag(penalty), known.T @ factors[is_known])
    return np.asarray(inputs @ weights, np.float32)


def behaviour_features(blocks: Iterable[UserBlock], place: Mapping[str, int]) -> Rows:
    """Return features of shape (items, width), by which items with the same users are similar.

    These features are used if there is no catalogue.
    """
    histories = sp.vstack([history_matrix(block, place, max_user_items=10_000) for block in blocks], "csr")
    return _narrow(_unit(sp.csr_matrix(histories.T)), TEXT_WIDTH)


def _narrow(rows: Rows | sp.csr_matrix, width: int) -> Rows:
    """Project the rows on the first principal directions (Halko et al. 2011) and scale them to length 1.

    If `rows` has at most `width` rows or columns, it is only made dense.
    """
    if min(rows.shape) <= width:
        return _dense(rows)
    # Imported here because it takes a second and only rankers need it.
    from sklearn.utils.extmath import randomized_svd

    left, sizes, _ = randomized_svd(rows, width, n_iter=2, random_state=0)
    narrow = np.asarray(left * sizes, np.float32)
    lengths = np.linalg.norm(narrow, axis=1, keepdims=True)
    unit: Rows = np.divide(narrow, lengths, out=np.zeros_like(narrow), where=lengths > 1e-6)
    return unit


def _dense(rows: Rows | sp.csr_matrix) -> Rows:
    return np.asarray(rows.toarray() if sp.issparse(rows) else rows, np.float32)  # type: ignore[union-attr]


def _values(items: Sequence[Item]) -> tuple[sp.csr_matrix, tuple[str, ...]]:
    tokens = [_tokens(item) for item in items]
    numbers: dict[str, list[float]] = {}
    for item in items:
        for name, value in item.attributes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(name, []).append(float(value))
    edges = {name: np.quantile(column, np.arange(1, NUM_BINS) / NUM_BINS) for name, column in numbers.items()}
    for place, item in enumerate(items):
        for name, value in item.attributes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                tokens[place].append((name, str(np.searchsorted(edges[name], value, side="right"))))
    columns = {
        token: column for column, token in enumerate(sorted({token for row in tokens for token in row}))
    }
    lengths = np.array([len(row) for row in tokens], np.int64)
    indices = np.array([columns[token] for row in tokens for token in row], np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.bincount(indices, minlength=len(columns))
    rarity = np.log((1 + len(items)) / (1 + counts)) + 1
    matrix = sp.csr_matrix((rarity[indices].astype(np.float32), indices, indptr), (len(items), len(columns)))
    return _unit(matrix), tuple(name for name, _ in columns)


def _tokens(item: Item) -> list[tuple[str, str]]:
    """Return the distinct pairs of attribute and value in sorted order, without numeric attributes."""
    tokens = {(CATEGORY, item.category)} if item.category else set()
    for name, value in item.attributes.items():
        if isinstance(value, bool):
            tokens.add((name, str(value)))
        elif isinstance(value, str):
            tokens.add((name, value))
        elif isinstance(value, tuple):
            tokens.update((name, part) for part in value)
    return sorted(tokens)


def _words(items: Sequence[Item]) -> sp.csr_matrix:
    # Imported here because it takes a second and workers with vectors do not need it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not items:
        return sp.csr_matrix((0, 0), dtype=np.float32)
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, max_features=MAX_TOKENS, token_pattern=_WORD, dtype=np.float32
    )
    try:
        return sp.csr_matrix(vectorizer.fit_transform([text_of(item) for item in items]))
    except ValueError:  # no text has a word
        return sp.csr_matrix((len(items), 1), dtype=np.float32)


def _unit(matrix: sp.csr_matrix) -> sp.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sp.csr_matrix(sp.diags(scale) @ matrix, dtype=np.float32)
