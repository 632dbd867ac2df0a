"""a delivery knows what its target was told last, so that what is withdrawn is told too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "e9a2476d1c38"
down_revision: str | None = "c3f18d60a7b5"
branch_labels: None = None
depends_on: None = None

TOLD = "told IN ('raised', 'withdrawn', 'unsure')"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("told", sa.String(length=16), nullable=True))
    op.create_check_constraint(op.f("ck_deliveries_told"), "deliveries", TOLD)
    op.add_column("deliveries", sa.Column("turn", sa.SmallInteger(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("turned_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE deliveries SET told = 'raised' WHERE ended_at IS NOT NULL AND error_code IS NULL")


def downgrade() -> None:
    op.drop_column("deliveries", "turned_at")
    op.drop_column("deliveries", "turn")
    op.drop_column("deliveries", "told")
