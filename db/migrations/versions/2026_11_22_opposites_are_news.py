"""windows from before opposites were told apart are computed anew, with the next run of their monitor."""

from __future__ import annotations

from alembic import op

revision: str = "a7d3f05c9e12"
down_revision: str | None = "f4a2c91b7d60"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    # A window without sums is no past to go on from: kinds/sentiment/store/series_history.py, last_window_at.
    op.execute("UPDATE entity_windows SET weight = NULL")


def downgrade() -> None:
    op.execute("UPDATE entity_windows SET weight = NULL")
