"""Fitting: any blocks give the same model, which is EASE as published and stays within its limits."""

from __future__ import annotations

import numpy as np
import pytest

from kinds.recommendation.ranking.arrays import ArraysUnreadableError
from kinds.recommendation.ranking.fit import fit, read_model_bytes
from kinds.recommendation.ranking.settings import RankingSettings
from tests.unit.kinds.recommendation.ranking.samples import SETTINGS, block_of, catalogue, histories

IDS = [item.id for item in catalogue()]
PLAIN = RankingSettings(
    ease_lambda=3.0, ease_dropout=0, user_exponent=0, low_rank_weight=0, num_neighbours=1000
)


def test_the_coefficients_are_those_of_ease_in_closed_form() -> None:
    items_of = histories()
    model = fit([block_of(items_of)], PLAIN, IDS)
    matrix = np.array([[item in items for item in model.item_ids] for items in items_of.values()], float)
    inverse = np.linalg.inv(matrix.T @ matrix + 3.0 * np.eye(len(model.item_ids)))
    expected = inverse / -np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(model.coefficients.toarray(), expected, atol=1e-6)


def test_the_kept_neighbours_are_the_largest_by_amount() -> None:
    whole = fit([block_of(histories())], PLAIN, IDS).coefficients.toarray()
    cut = fit([block_of(histories())], PLAIN.model_copy(update={"num_neighbours": 5}), IDS).coefficients
    for row in range(len(whole)):
        largest = set(np.argsort(-np.abs(whole[row]), kind="stable")[:5].tolist())
        assert set(cut[row].indices.tolist()) == largest


@pytest.mark.parametrize("num_blocks", [2, 5])
def test_blocks_cut_differently_give_the_same_bytes(num_blocks: int) -> None:
    items_of = histories()
    users = sorted(items_of)
    parts = [{user: items_of[user] for user in users[number::num_blocks]} for number in range(num_blocks)]
    whole = fit([block_of(items_of)], SETTINGS, IDS).to_bytes()
    assert fit([block_of(part) for part in reversed(parts)], SETTINGS, IDS).to_bytes() == whole


def test_a_model_comes_back_from_its_bytes() -> None:
    body = fit([block_of(histories())], SETTINGS, IDS).to_bytes()
    assert read_model_bytes(body).to_bytes() == body


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04 not a zip", np.arange(3).tobytes()])
def test_other_bytes_are_no_model(body: bytes) -> None:
    with pytest.raises(ArraysUnreadableError):
        read_model_bytes(body)


def test_an_iterator_is_refused_since_it_ends_after_one_pass() -> None:
    with pytest.raises(TypeError, match="read twice"):
        fit(iter([block_of(histories())]), SETTINGS, IDS)


def test_items_outside_the_catalogue_do_not_count() -> None:
    items_of = {"ann": ["i000", "gone"], "bob": ["gone"]}
    model = fit([block_of(items_of)], SETTINGS, IDS)
    assert model.item_ids == ("i000",)
    assert (model.num_users, model.num_entries) == (1, 1)


def test_no_interaction_gives_a_model_of_nothing() -> None:
    model = fit([], SETTINGS, IDS)
    assert model.item_ids == ()
    assert read_model_bytes(model.to_bytes()).num_users == 0


def test_of_a_robots_history_the_latest_items_count() -> None:
    ids = [f"i{number:05d}" for number in range(3000)]
    times = {("robot", item): number for number, item in enumerate(ids)}
    settings = SETTINGS.model_copy(update={"max_user_items": 100})
    model = fit([block_of({"robot": ids}, times=times)], settings, ids)
    assert model.item_ids == tuple(ids[-100:])


def test_beyond_the_limit_the_most_popular_items_are_fitted() -> None:
    settings = SETTINGS.model_copy(update={"max_fitted_items": 10})
    model = fit([block_of(histories())], settings, IDS)
    fitted = np.unique(model.coefficients.nonzero()[0])
    others = np.setdiff1d(np.arange(len(model.item_ids)), fitted)
    assert len(model.item_ids) > len(fitted) == 10
    assert model.num_users_of_item[fitted].min() >= model.num_users_of_item[others].max()
