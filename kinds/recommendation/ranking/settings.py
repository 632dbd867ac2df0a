"""The recipe of ranking: what is fitted, and how much each part of a score weighs; as data of a refresh."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RankingSettings(BaseModel):
    """Defaults are those of benchmarks/ranking.py, chosen inside training parts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    max_user_items: int = Field(default=1000, ge=1, le=10_000)
    """Of a user's history, the latest: one with 100,000 events would weigh more than everybody else."""
    max_fitted_items: int = Field(default=10_000, ge=1, le=30_000)
    """The most popular ones: the fit holds a square matrix of them, 400 MB of float32 for 10,000."""
    half_life_days: float | None = Field(default=None, ge=0.001, le=100_000)
    """After which an entry of a history weighs half, counted back from the last event of the log."""
    ease_lambda: float = Field(default=400.0, gt=0, le=1e9)
    """Ridge of the item-item regression (Steck 2019, eq. 8)."""
    ease_dropout: float = Field(default=0.5, ge=0, le=1e6)
    """Ridge in proportion to an item's count: p / (1 - p) for a chance p of dropping entries (Steck 2020)."""
    user_exponent: float = Field(default=0.5, ge=0, le=1)
    """A user with n items weighs n ** -exponent in the fit."""
    regression_weight: float = Field(default=1.0, ge=0, le=1e6)
    """Of the regression's coefficients; 0 saves the inversion."""
    knn_weight: float = Field(default=0.0, ge=0, le=1e6)
    """Of the cosine of two items' users, added to the regression's coefficient."""
    rank: int = Field(default=24, ge=1, le=1000)
    """Directions of the low-rank part."""
    low_rank_weight: float = Field(default=0.8, ge=0, le=1e6)
    """Of that part, added to the sum of the coefficients."""
    num_neighbours: int = Field(default=200, ge=1, le=10_000)
    """Kept of an item: the largest by amount."""
    popularity_weight: float = Field(default=0.01, ge=0, le=1e6)
    """Of log(1 + users) over its largest value."""
    cold_content_weight: float = Field(default=1.0, ge=0, le=1e6)
    """Of what text and attributes promise of the low-rank part, for items that nobody had to do with."""
    cold_users: float = Field(default=1.0, gt=0, le=1e6)
    """Users at which half of that weight is left."""
    content_ridge: float = Field(default=1.0, gt=0, le=1e9)
    """Of the regression of items' factors on their content."""
    text_share: float = Field(default=0.25, ge=0, le=1)
    """Of an item's likeness; the rest is that of its attributes."""
    num_candidates: int = Field(default=100, ge=10, le=1000)
    """Of a user, by score after the rules: what diversity and caps choose from."""
