"""stages have profiles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "a3d95b7c1e40"
down_revision: str | None = "e512dfb8f620"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("stages", sa.Column("profile", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("stages", "profile")
