"""Revisions of the tables of recommenders: the branch `recommendation`."""
