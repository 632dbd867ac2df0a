"""Business rules: which items may be on a list, and how it is mixed."""

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
    """Ratio to the median price of the user's own items; for users without one, all prices pass."""
    max_ratio: float | None = Field(default=None, ge=0, le=1e6)


class Rules(BaseModel):
    """The rules of a recommender."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    list_length: int = Field(default=10, ge=1, le=100)
    reserve: int = Field(default=10, ge=0, le=100)
    """Items kept in reserve after the list, which move up at once when others become unavailable."""
    exclude: Literal["interacted", "purchased", "nothing"] = "interacted"
    """Items of the user's own history that are left out."""
    blocked_items: frozenset[str] = frozenset()
    blocked_categories: frozenset[str] = frozenset()
    max_per_category: int | None = Field(default=None, ge=1, le=1000)
    """Maximum items of a category on one list."""
    max_per_attribute: Mapping[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=dict)
    """Maximum items on one list that share a value of the attribute: {"brand": 2}."""
    price: PriceBand = PriceBand()
    diversity: float = Field(default=0.1, ge=0, le=1)
    """Weight of dissimilarity to items on the list (Carbonell and Goldstein 1998, MMR); 0 turns it off."""

    @field_serializer("blocked_items", "blocked_categories")
    def _ordered(self, names: frozenset[str]) -> list[str]:
        """Sort sets, whose order differs between processes, because rules are part of digests."""
        return sorted(names)
