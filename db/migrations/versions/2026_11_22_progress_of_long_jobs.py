"""progress of long jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "c41d7e0b9a52"
down_revision: str | None = "8b0f3c6e2d17"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "progress")
