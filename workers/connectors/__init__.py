"""Outbound connections: sources of documents, and the check of every address before connecting to it."""
