"""Texts about recommended items."""
