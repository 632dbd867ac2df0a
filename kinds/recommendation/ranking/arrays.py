"""Stores arrays with a header as bytes; equal arrays give equal bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from jobs.errors import PermanentError

Arrays = Mapping[str, npt.NDArray[Any]]


class ArraysUnreadableError(PermanentError):
    """The bytes are not a file of arrays, or the file is of a different kind or version."""

    code = "arrays_unreadable"


def pack_arrays(kind: str, header: Mapping[str, object], arrays: Arrays) -> bytes:
    """Return the header and the arrays as an uncompressed .npz file without timestamps.

    The bytes of a compressed file would depend on the version of zlib.
    """
    text = json.dumps({"kind": kind, **header}, sort_keys=True, ensure_ascii=False)
    body = io.BytesIO()
    np.savez(body, allow_pickle=False, header=np.frombuffer(text.encode(), np.uint8), **arrays)
    return body.getvalue()


def unpack_arrays(kind: str, body: bytes) -> tuple[dict[str, Any], Arrays]:
    """Return the header and the arrays. Raises ArraysUnreadableError."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise ArraysUnreadableError(f"a resource that should be {kind} cannot be read: {error}") from error
    if header.pop("kind", None) != kind:
        raise ArraysUnreadableError(
            f"a resource does not have the expected format {kind}: run the recommender again"
        )
    return header, arrays
