"""Revisions of the tables of monitors: the branch `sentiment_report`."""
