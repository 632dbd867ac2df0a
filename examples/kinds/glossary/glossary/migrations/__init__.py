"""The alembic revisions of the kind's own table."""
