"""Create the table of recorded terms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "glossary_0001"
down_revision = None
branch_labels = ("glossary",)


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "glossary_terms",
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("term", name=op.f("pk_glossary_terms")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("glossary_terms")
