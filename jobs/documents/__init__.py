"""Documents: what is read, cleaned, and linked to the entities of a watch list. Pure functions and types."""
