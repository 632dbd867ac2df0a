"""a batch says which monitor or refresh it is a run of, and one run of each is under way at most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "c3f18d60a7b5"
down_revision: str | None = "5e0c7a94d216"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("standing_for", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_batches_standing",
        "batches",
        ["standing_for"],
        unique=True,
        postgresql_where=sa.text("status = 'running' AND standing_for IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_batches_standing", "batches")
    op.drop_column("batches", "standing_for")
