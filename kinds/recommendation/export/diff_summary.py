"""What the difference between two releases comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSummary:
    """Figures of all users and texts."""

    before: int
    after: int
    """Numbers of the releases."""
    num_users_before: int
    num_users_after: int
    num_users_new: int
    num_users_gone: int
    num_users_changed: int
    num_added: int
    num_removed: int
    num_moved: int
    """Places; `moved` are those in another order among the items that stayed."""
    causes: Sequence[Mapping[str, object]]
    """Of the users in both releases: {"change", "why", "places"}; several causes: any of them, or all."""
    num_texts_new: int
    num_texts_changed: int
    num_texts_gone: int
    num_texts_carried: int
    text_reasons: Mapping[str, int]
    inputs: Sequence[str]
    """What differs for all users."""
    catalogue: Mapping[str, int]

    @property
    def num_users_same(self) -> int:
        """Users of both releases with the same list."""
        return self.num_users_after - self.num_users_new - self.num_users_changed

    def as_json(self) -> dict[str, object]:
        """Stable names; diff.json."""
        return {**asdict(self), "num_users_same": self.num_users_same}

    def __str__(self) -> str:
        return (
            f"release {self.before} to {self.after}: {self.num_users_changed:,} of {self.num_users_after:,} "
            f"users see another list ({self.num_added:,} places added, {self.num_removed:,} removed, "
            f"{self.num_moved:,} moved), {self.num_users_new:,} users are new, "
            f"{self.num_users_gone:,} gone; texts: {self.num_texts_new:,} new, "
            f"{self.num_texts_changed:,} changed, {self.num_texts_carried:,} carried over"
        )
