"""Documents, and how they are read from sources. Pure functions and types."""
