"""windows keep the sums that later windows are computed from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "b7c40d1e9f52"
down_revision: str | None = "d7e21f60b8c3"
branch_labels: None = None
depends_on: None = None

SUMS = ("weight", "weight_squared", "weighted_score")


def upgrade() -> None:
    for name in SUMS:
        op.add_column("entity_windows", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for name in SUMS:
        op.drop_column("entity_windows", name)
