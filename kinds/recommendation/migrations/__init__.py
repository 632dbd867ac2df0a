"""Migrations of the tables of recommenders, on the Alembic branch `recommendation`."""
