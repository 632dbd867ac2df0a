"""What sentiment monitoring keeps in Postgres."""
