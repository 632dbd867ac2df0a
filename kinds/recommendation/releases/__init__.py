"""Releases: published lists, which are numbered and immutable."""
