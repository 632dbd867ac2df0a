"""Pressroom: batch content production on your own machines.

Applications `submit` a batch, query its `status` and stream its `results`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pressroom.api import Output, results, status, submit

__all__ = ["Output", "results", "status", "submit"]


def __getattr__(name: str) -> object:
    """Load the API when it is first used, so that the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pressroom import api

    return getattr(api, name)
