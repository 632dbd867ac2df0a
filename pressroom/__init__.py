"""Pressroom: batch content production on your own machines.

From an application: `submit` a batch, ask for its `status`, stream its `results`.
"""

from pressroom.api import Output, results, status, submit

__all__ = ["Output", "results", "status", "submit"]
