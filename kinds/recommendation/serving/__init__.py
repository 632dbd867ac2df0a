"""Serves recommendations from Redis."""
