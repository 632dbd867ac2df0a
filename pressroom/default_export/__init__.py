"""The export of a kind that has none of its own: its artifacts, a table of its jobs, a page to read them."""
