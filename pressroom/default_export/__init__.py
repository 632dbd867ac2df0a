"""The export for kinds without one of their own: the artifacts, a table of the jobs, and a page to read."""
