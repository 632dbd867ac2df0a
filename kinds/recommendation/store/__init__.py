"""Storage of recommendations in Postgres."""
