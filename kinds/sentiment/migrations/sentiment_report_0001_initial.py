"""Creates the tables of monitors, their documents and series, and alerts with their deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "sentiment_report_0001"
down_revision: None = None
branch_labels: tuple[str, ...] = ("sentiment_report",)
depends_on: str = "core_0001"


def upgrade() -> None:
    op.execute("CREATE SEQUENCE pending_change_number")
    op.create_table(
        "classifications",
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("negative", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("neutral", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("positive", sa.DOUBLE_PRECISION(), nullable=False),
        sa.PrimaryKeyConstraint("model_sha256", "digest", name=op.f("pk_classifications")),
    )
    op.create_table(
        "monitors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("watchlist_sha256", sa.Text(), nullable=False),
        sa.Column("num_entities", sa.Integer(), nullable=False),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sources", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("targets", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["id"], ["schedules.id"], name=op.f("fk_monitors_id_schedules"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitors")),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("monitor_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column(
            "rule",
            sa.Enum(
                "surge",
                "slide",
                "silence",
                "reversal",
                name="rule",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column(
            "size",
            sa.Enum("hour", "day", "week", name="size", native_enum=False, create_constraint=True, length=16),
            nullable=False,
        ),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("statistic", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("p_value", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("threshold", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("observed", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("expected", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("document_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "open",
                "acknowledged",
                "withdrawn",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["monitor_id"], ["monitors.id"], name=op.f("fk_alerts_monitor_id_monitors"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("monitor_id", "key", name=op.f("uq_alerts_monitor_id_key")),
    )
    op.create_index("ix_alerts_series", "alerts", ["monitor_id", "entity_id", "starts_at"], unique=False)
    op.create_table(
        "documents",
        sa.Column("monitor_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("analysis", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("num_mentions", sa.SmallInteger(), nullable=False),
        sa.Column("flags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("analysed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["monitor_id"], ["monitors.id"], name=op.f("fk_documents_monitor_id_monitors"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("monitor_id", "id", name=op.f("pk_documents")),
    )
    op.create_index("ix_documents_job_id", "documents", ["job_id"], unique=False)
    op.create_index("ix_documents_published_at", "documents", ["monitor_id", "published_at"], unique=False)
    op.create_index(
        "ix_documents_record",
        "documents",
        ["monitor_id", "record"],
        unique=False,
        postgresql_where=sa.text("record IS NOT NULL"),
    )
    op.create_table(
        "entity_windows",
        sa.Column("monitor_id", sa.Uuid(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column(
            "size",
            sa.Enum("hour", "day", "week", name="size", native_enum=False, create_constraint=True, length=16),
            nullable=False,
        ),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("num_documents", sa.Integer(), nullable=False),
        sa.Column("num_followups", sa.Integer(), nullable=False),
        sa.Column("num_positive", sa.Integer(), nullable=False),
        sa.Column("num_neutral", sa.Integer(), nullable=False),
        sa.Column("num_negative", sa.Integer(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("weight_squared", sa.BigInteger(), nullable=False),
        sa.Column("weighted_score", sa.BigInteger(), nullable=False),
        sa.Column("mean_score", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("negative_share", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("negative_low", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("negative_high", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("trend", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("baseline_score", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("baseline_volume", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("change", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor_id"],
            ["monitors.id"],
            name=op.f("fk_entity_windows_monitor_id_monitors"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "monitor_id", "entity_id", "size", "starts_at", name=op.f("pk_entity_windows")
        ),
    )
    op.create_table(
        "mentions",
        sa.Column("monitor_id", sa.Uuid(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("relevance", sa.SmallInteger(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=True),
        sa.Column("p_negative", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("p_neutral", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("p_positive", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("novelty", sa.Integer(), nullable=True),
        sa.Column("first_id", sa.Text(), nullable=True),
        sa.Column("novelty_read_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["monitor_id"], ["monitors.id"], name=op.f("fk_mentions_monitor_id_monitors"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("monitor_id", "entity_id", "document_id", name=op.f("pk_mentions")),
    )
    op.create_index("ix_mentions_document", "mentions", ["monitor_id", "document_id"], unique=False)
    op.create_index(
        "ix_mentions_series", "mentions", ["monitor_id", "entity_id", "published_at"], unique=False
    )
    op.create_table(
        "mutes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("monitor_id", sa.Uuid(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["monitor_id"], ["monitors.id"], name=op.f("fk_mutes_monitor_id_monitors"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mutes")),
    )
    op.create_table(
        "pending_changes",
        sa.Column("monitor_id", sa.Uuid(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "number",
            sa.BigInteger(),
            server_default=sa.text("nextval('pending_change_number')"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["monitor_id"],
            ["monitors.id"],
            name=op.f("fk_pending_changes_monitor_id_monitors"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("monitor_id", "entity_id", name=op.f("pk_pending_changes")),
    )
    op.create_table(
        "deliveries",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("num_attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column(
            "notified",
            sa.Enum(
                "raised",
                "withdrawn",
                "unsure",
                name="notified",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=True,
        ),
        sa.Column("turn", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("turned_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("fk_deliveries_alert_id_alerts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert_id", "target", name=op.f("pk_deliveries")),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_due", table_name="deliveries", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_table("deliveries")
    op.drop_table("pending_changes")
    op.drop_table("mutes")
    op.drop_index("ix_mentions_series", table_name="mentions")
    op.drop_index("ix_mentions_document", table_name="mentions")
    op.drop_table("mentions")
    op.drop_table("entity_windows")
    op.drop_index(
        "ix_documents_record", table_name="documents", postgresql_where=sa.text("record IS NOT NULL")
    )
    op.drop_index("ix_documents_published_at", table_name="documents")
    op.drop_index("ix_documents_job_id", table_name="documents")
    op.drop_table("documents")
    op.drop_index("ix_alerts_series", table_name="alerts")
    op.drop_table("alerts")
    op.drop_table("monitors")
    op.drop_table("classifications")
    op.execute("DROP SEQUENCE pending_change_number")
