"""The default export of a kind: its artifacts, a table of its jobs, and a page to read them."""
