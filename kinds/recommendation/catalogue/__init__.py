"""Reads catalogues of items and logs of interactions from files and stores them as resources."""
