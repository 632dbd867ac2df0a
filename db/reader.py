"""The read-only role of the embedded Postgres.

It runs the queries of sources whose URL names Pressroom's own database.
"""

from __future__ import annotations

import hashlib
import hmac

READER = "reader"
"""Name of the role. It may read all tables, but can neither write nor end a session of Pressroom."""


def reader_password(own_password: str) -> str:
    """Return the reader's password, derived from the password of Pressroom's own role.

    Whoever knows that one, such as a worker, can derive this one.

    >>> len(reader_password("secret"))
    64
    """
    return hmac.digest(own_password.encode(), READER.encode(), hashlib.sha256).hex()
