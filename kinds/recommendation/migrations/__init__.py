"""Revisions of the tables of refreshes: the branch `recommendation`."""
