"""leads are leases in rows, and candidates are known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "1c9e50d7b3a8"
down_revision: str | None = "b81e4d2f6c07"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "leads",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_leads")),
    )
    op.create_table(
        "candidates",
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_candidates")),
    )


def downgrade() -> None:
    op.drop_table("candidates")
    op.drop_table("leads")
