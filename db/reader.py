"""The role of the embedded Postgres in which queries of sources run whose URL names Pressroom's own."""

from __future__ import annotations

import hashlib
import hmac

READER = "reader"
"""It may read all tables, and can neither write nor end a session of Pressroom's."""


def reader_password(own_password: str) -> str:
    """The reader's password: who knows that of Pressroom's own role, a worker for example, knows this one.

    >>> len(reader_password("secret"))
    64
    """
    return hmac.digest(own_password.encode(), READER.encode(), hashlib.sha256).hex()
