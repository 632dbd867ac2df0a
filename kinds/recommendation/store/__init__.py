"""What recommendations keep in Postgres."""
