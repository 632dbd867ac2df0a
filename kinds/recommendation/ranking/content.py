"""Similarity of items by text and attributes, for items without interactions and for diversity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.histories import history_matrix
from kinds.recommendation.ranking.vectors import ItemVectors, text_of

Rows = npt.NDArray[np.float32]

CATEGORY = "category"

NUM_BINS = 10
"""Bins of a numeric attribute (pages, weight, year); numbers in the same bin count as equal."""
MAX_TOKENS = 50_000
"""Maximum number of distinct words that are used if there are no vectors."""
_WORD = r"(?u)\w+"
TEXT_WIDTH = 48
VALUES_WIDTH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Items as rows; two are similar by text_share * text . text + (1 - text_share) * values . values."""

    text: Rows | sp.csr_matrix
    """(items, width): vectors, or words weighted by rarity; rows have length 1 or 0."""
    values: sp.csr_matrix
    """(items, values): attributes weighted by rarity; rows have length 1 or 0."""
    names: tuple[str, ...]
    """Attribute name of each column of `values`."""
    text_share: float


def content_of(items: Sequence[Item], vectors: ItemVectors | None, text_share: float) -> Content:
    """Return the content of a catalogue in its order; words are used if there are no vectors."""
    values, names = _values(items)
    if not values.shape[1]:
        text_share = 1.0
    text = _words(items) if vectors is None or not len(vectors.rows) else vectors.of_items(items)
    return Content(text, values, names, text_share)


def diversity_features(content: Content) -> Rows:
    """Return rows of shape (items, width) whose products approximate the similarity.

    They are narrow enough to compare many of them.
    """
    parts = [
        _narrow(content.text, TEXT_WIDTH) * np.float32(np.sqrt(content.text_share)),
        _narrow(content.values, VALUES_WIDTH) * np.float32(np.sqrt(1 - content.text_share)),
    ]
    return np.ascontiguousarray(np.hstack(parts), np.float32)


def factors_by_content(features: Rows, factors: Rows, is_known: npt.NDArray[np.bool_], ridge: float) -> Rows:
    """Predict the factors (items, rank) of items from their content, by ridge regression on the known ones.

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
    """Return features of shape (items, width) from shared users, for use without a catalogue."""
    histories = sp.vstack([history_matrix(block, place, max_user_items=10_000) for block in blocks], "csr")
    return _narrow(_unit(sp.csr_matrix(histories.T)), TEXT_WIDTH)


def _narrow(rows: Rows | sp.csr_matrix, width: int) -> Rows:
    """Project the rows on the first principal directions (Halko et al. 2011) and scale them to length 1."""
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
    edges = {name: np.quantile(said, np.arange(1, NUM_BINS) / NUM_BINS) for name, said in numbers.items()}
    for place, item in enumerate(items):
        for name, value in item.attributes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                tokens[place].append((name, str(np.searchsorted(edges[name], value, side="right"))))
    columns = {token: column for column, token in enumerate(sorted({one for row in tokens for one in row}))}
    lengths = np.array([len(row) for row in tokens], np.int64)
    indices = np.array([columns[token] for row in tokens for token in row], np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.bincount(indices, minlength=len(columns))
    rarity = np.log((1 + len(items)) / (1 + counts)) + 1
    matrix = sp.csr_matrix((rarity[indices].astype(np.float32), indices, indptr), (len(items), len(columns)))
    return _unit(matrix), tuple(name for name, _ in columns)


def _tokens(item: Item) -> list[tuple[str, str]]:
    """Return the distinct pairs of attribute and value."""
    found = {(CATEGORY, item.category)} if item.category else set()
    for name, value in item.attributes.items():
        if isinstance(value, bool):
            found.add((name, str(value)))
        elif isinstance(value, str):
            found.add((name, value))
        elif isinstance(value, tuple):
            found.update((name, one) for one in value)
    return sorted(found)


def _words(items: Sequence[Item]) -> sp.csr_matrix:
    # Imported here because it takes a second and workers with vectors do not need it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not items:
        return sp.csr_matrix((0, 0), dtype=np.float32)
    made = TfidfVectorizer(sublinear_tf=True, max_features=MAX_TOKENS, token_pattern=_WORD, dtype=np.float32)
    try:
        return sp.csr_matrix(made.fit_transform([text_of(item) for item in items]))
    except ValueError:  # no text has a word
        return sp.csr_matrix((len(items), 1), dtype=np.float32)


def _unit(matrix: sp.csr_matrix) -> sp.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sp.csr_matrix(sp.diags(scale) @ matrix, dtype=np.float32)
