"""Catalogues of items and logs of interactions: read from files, kept as resources."""
