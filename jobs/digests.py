"""What digests in a provenance statement are taken over, where it is no file: bytes in a fixed layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def row_bytes(token_ids: Sequence[int], type_ids: Sequence[int]) -> bytes:
    """An encoder's input: number of tokens, ids, segments, as 32-bit little-endian integers.

    >>> row_bytes([258], [1]).hex(" ", 4)
    '01000000 02010000 01000000'
    """
    return np.asarray((len(token_ids), *token_ids, *type_ids), "<u4").tobytes()


def vector_bytes(vector: Sequence[float]) -> bytes:
    """An encoder's answer: number of values, each in millionths, as 64-bit little-endian integers.

    >>> vector_bytes([0.25, 0.75]) == vector_bytes([0.2500001, 0.7499999])
    True
    """
    millionths = np.rint(np.asarray(vector, dtype=float) * 1e6).astype("<i8")
    return len(vector).to_bytes(8, "little") + bytes(millionths.tobytes())
