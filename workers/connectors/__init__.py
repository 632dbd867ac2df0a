"""Connections to the outside: sources of documents, and the check of every address that is called."""
