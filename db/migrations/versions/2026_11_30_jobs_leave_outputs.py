"""jobs leave typed outputs for the next stage, apart from their metrics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "5f0a7d93be24"
down_revision: str | None = "2f8a6c1d94b7"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("output", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "output")
