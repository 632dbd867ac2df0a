"""A single value of a table as text, whichever format it was read from."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal

from jobs.intake_json import MAX_INTEGER


def as_text(value: object) -> str | None:
    """A single value as text, stripped; empty where there is nothing, None for what is no single value.

    >>> as_text(17), as_text(17.0), as_text(" a "), as_text([1])
    ('17', '17', 'a', None)
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) <= MAX_INTEGER else repr(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    return None
