"""Documents and the readers of their sources."""
