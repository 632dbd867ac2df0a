"""Summary of the difference between two releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSummary:
    """Figures about all users and texts."""

    before: int
    after: int
    """Number of the later release; `before` is that of the earlier one."""
    num_users_before: int
    num_users_after: int
    num_users_new: int
    num_users_gone: int
    num_users_changed: int
    num_added: int
    num_removed: int
    num_moved: int
    """Places whose order among the items on both lists has changed."""
    causes: Sequence[Mapping[str, object]]
    """Changes for users in both releases: {"change", "why", "places"}; any or all of several causes apply."""
    num_texts_new: int
    num_texts_changed: int
    num_texts_gone: int
    num_texts_carried: int
    text_reasons: Mapping[str, int]
    inputs: Sequence[str]
    """Causes that apply to all users."""
    catalogue: Mapping[str, int]

    @property
    def num_users_same(self) -> int:
        """Users in both releases with the same list."""
        return self.num_users_after - self.num_users_new - self.num_users_changed

    def as_json(self) -> dict[str, object]:
        """Return the summary under stable names, as diff.json holds it."""
        return {**asdict(self), "num_users_same": self.num_users_same}

    def __str__(self) -> str:
        return (
            f"release {self.before} to {self.after}: {self.num_users_changed:,} of {self.num_users_after:,} "
            f"users see another list ({self.num_added:,} places added, {self.num_removed:,} removed, "
            f"{self.num_moved:,} moved), {self.num_users_new:,} users are new, "
            f"{self.num_users_gone:,} gone; texts: {self.num_texts_new:,} new, "
            f"{self.num_texts_changed:,} changed, {self.num_texts_carried:,} carried over"
        )
