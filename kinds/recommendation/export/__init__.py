"""Exports releases of recommendations: files, pages, rows, and the difference between two releases."""
