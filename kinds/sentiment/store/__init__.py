"""The tables of sentiment monitoring in Postgres: reading and writing."""
