"""What may lie in a model folder: formats, headers and JSON files, checked before any library reads them.

Nothing here trusts the folder: every length is bounded before it is read, and no file of it is executed.
"""

from __future__ import annotations

import json
from pathlib import Path

from jobs.errors import PermanentError

MAX_JSON_BYTES = 64 * 1024 * 1024
"""Of a model's JSON file. The largest tokenizer.json files in use (256,000 tokens) are about 35 MB."""
MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format itself (safetensors/src/tensor.rs, MAX_HEADER_SIZE)."""
MAX_GGUF_ENTRIES = 1_000_000
"""Tensors or metadata keys of a GGUF file; the largest models have some thousands."""


class ModelFormatError(PermanentError):
    """A model folder holds a file that could run code, or weights in a format that is not read."""

    code = "model_format_refused"


class RemoteCodeError(PermanentError):
    """A model's JSON file asks for Python code to be loaded."""

    code = "model_remote_code_refused"


class MalformedFileError(PermanentError):
    """A model file contradicts its own format."""

    code = "model_file_malformed"


def read_json_object(path: Path) -> dict[str, object]:
    """The JSON object in a model's file; MalformedFileError if it is not one."""
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise MalformedFileError(f"{path}: {size} bytes, a model's JSON file has at most {MAX_JSON_BYTES}")
    return _parse_object(path.read_bytes(), path)


def _parse_object(text: bytes, path: Path) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedFileError(f"{path}: not valid JSON ({error}); fetch the model again") from error
    if not isinstance(value, dict):
        raise MalformedFileError(f"{path}: a JSON {type(value).__name__} where an object belongs")
    return value
