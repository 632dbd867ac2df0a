"""Reads and writes the tables of sentiment monitoring in Postgres."""
