"""Settings of ranking: the business rules for lists, and the weight of each part of a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer


class PriceBand(BaseModel):
    """Limits for the price of an item; items without a price pass."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    min: float | None = Field(default=None, ge=0, le=1e15)
    max: float | None = Field(default=None, ge=0, le=1e15)
    min_ratio: float | None = Field(default=None, ge=0, le=1e6)
    """Minimum ratio to the median price of the user's own items; without such a median, all prices pass."""
    max_ratio: float | None = Field(default=None, ge=0, le=1e6)


class Rules(BaseModel):
    """Business rules for the lists of a recommender."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    list_length: int = Field(default=10, ge=1, le=100)
    reserve: int = Field(default=10, ge=0, le=100)
    """Number of reserve items after the list, which move up at once when others become unavailable."""
    exclude: Literal["interacted", "purchased", "nothing"] = "interacted"
    """Which items of the user's own history are left out."""
    blocked_items: frozenset[str] = frozenset()
    blocked_categories: frozenset[str] = frozenset()
    max_per_category: int | None = Field(default=None, ge=1, le=1000)
    """Maximum number of items of a category on one list."""
    max_per_attribute: Mapping[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=dict)
    """Maximum number of items on one list that share a value of the attribute: {"brand": 2}."""
    price: PriceBand = PriceBand()
    diversity: float = Field(default=0.1, ge=0, le=1)
    """Weight of dissimilarity to items on the list (Carbonell and Goldstein 1998, MMR); 0 turns it off."""

    @field_serializer("blocked_items", "blocked_categories")
    def _ordered(self, names: frozenset[str]) -> list[str]:
        """Sort sets, whose order differs between processes, because rules are part of digests."""
        return sorted(names)


class RankingSettings(BaseModel):
    """Settings of ranking. benchmarks/ranking.py chose the defaults on splits of the training data alone."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    max_user_items: int = Field(default=1000, ge=1, le=10_000)
    """Maximum number of items of a history that count, latest first. Without a limit, a user with 100,000
    events would outweigh everybody else."""
    max_fitted_items: int = Field(default=10_000, ge=1, le=30_000)
    """Maximum number of items that are fitted, most popular first. For 10,000 items, the square matrix takes
    400 MB of float32."""
    half_life_days: float | None = Field(default=None, ge=0.001, le=100_000)
    """Age at which an entry of a history has half its weight, counted back from the log's last event."""
    ease_lambda: float = Field(default=400.0, gt=0, le=1e9)
    """Ridge of the item-item regression (Steck 2019, eq. 8)."""
    ease_dropout: float = Field(default=0.5, ge=0, le=1e6)
    """Ridge relative to an item's count: p / (1 - p) for a probability p of dropping entries (Steck 2020)."""
    user_exponent: float = Field(default=0.5, ge=0, le=1)
    """Exponent of a user's weight in the fit, which is n ** -exponent for n items."""
    regression_weight: float = Field(default=1.0, ge=0, le=1e6)
    """Weight of the regression's coefficients; 0 skips the inversion."""
    knn_weight: float = Field(default=0.0, ge=0, le=1e6)
    """Weight of two items' cosine similarity by users, which is added to the regression's coefficient."""
    rank: int = Field(default=24, ge=1, le=1000)
    """Number of directions of the low-rank part."""
    low_rank_weight: float = Field(default=0.8, ge=0, le=1e6)
    """Weight of the low-rank part, which is added to the sum of the coefficients."""
    num_neighbours: int = Field(default=200, ge=1, le=10_000)
    """Number of coefficients that are kept per item, the largest in absolute value."""
    popularity_weight: float = Field(default=0.01, ge=0, le=1e6)
    """Weight of popularity, which is log(1 + users) divided by its largest value."""
    cold_content_weight: float = Field(default=1.0, ge=0, le=1e6)
    """Weight of the low-rank part that text and attributes predict, for items without interactions."""
    cold_users: float = Field(default=1.0, gt=0, le=1e6)
    """Number of users of an item at which half of `cold_content_weight` is left."""
    content_ridge: float = Field(default=1.0, gt=0, le=1e9)
    """Ridge of the regression of items' factors on their content."""
    text_share: float = Field(default=0.25, ge=0, le=1)
    """Share of the text in the similarity of items; the rest is that of their attributes."""
    num_candidates: int = Field(default=100, ge=10, le=1000)
    """Number of candidates per user: the items with the highest scores among those that the rules allow.
    Diversity and caps choose from them."""
