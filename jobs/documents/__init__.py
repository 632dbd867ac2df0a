"""Documents: what is read, cleaned, and compared. Pure functions and types."""
