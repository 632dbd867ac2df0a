"""What may lie in a model folder: formats, headers and JSON files, checked before any library reads them.

Nothing here trusts the folder: lengths are bounded before they are read, and no file of it is executed.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.errors import PermanentError
from workers.models.gguf_header import GgufHeaderError, check_gguf_header

MAX_JSON_BYTES = 64 * 1024 * 1024
"""Of a model's JSON file. The largest tokenizer.json files in use (256,000 tokens) are about 35 MB."""
MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
"""The limit of the format itself (safetensors/src/tensor.rs, MAX_HEADER_SIZE)."""

Task = Literal["generate", "classify", "embed"]
"""What a model is asked for: text, probabilities of classes, or a vector."""

MANIFEST = "manifest.json"
"""Of an installed model; manifest.py says what is in it."""
CALIBRATION = "calibration.json"
"""Beside it, of a classifier that was calibrated here; calibration.py says what is in it."""
CALIBRATION_PARTIAL_SUFFIX = ".calibration"
"""Of the hidden file beside the model folders that it is written to, before it is renamed."""
WEIGHT_SUFFIX = ".safetensors"
GGUF_SUFFIX = ".gguf"
KEPT_SUFFIXES = frozenset({WEIGHT_SUFFIX, ".json", ".jinja", ".txt", ".md"})
"""Weights, settings, chat template, merges and notes: all that an installed model consists of."""
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Of an installed file: no path, nothing hidden, nothing that a shell would read otherwise."""
KEPT_NAMES = frozenset({"LICENSE", "LICENCE", "NOTICE"})
REFUSED_SUFFIXES = frozenset(
    {".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".keras", ".msgpack", ".npy", ".npz", ".onnx"}
    | {".pb", ".pickle", ".pkl", ".pt", ".pth", ".tar", ".tflite", ".zip"}
    | {".dll", ".dylib", ".py", ".pyc", ".pyd", ".pyw", ".sh", ".so"}
)
"""Code, pickles, and formats that can carry either: a library may load them before anybody looks."""

_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""safetensors/src/tensor.rs, Dtype; the types of less than a byte are left out, no engine here reads them."""


class ModelFormatError(PermanentError):
    """A model folder holds a file that could run code, or no weights in a format that is read."""

    code = "model_format_refused"


class RemoteCodeError(PermanentError):
    """A model's JSON file asks for Python code to be loaded."""

    code = "model_remote_code_refused"


class MalformedFileError(PermanentError):
    """A model file contradicts its own format."""

    code = "model_file_malformed"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header."""

    name: str
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the end of the header."""
    end: int

    @property
    def num_parameters(self) -> int:
        return math.prod(self.shape)


def is_kept(path: Path) -> bool:
    """Whether a file of a source belongs to the installed model; others are left behind."""
    named = path.suffix in KEPT_SUFFIXES or path.name in KEPT_NAMES
    # A source's own manifest.json and calibration.json would be taken for ours
    return (
        named and path.name not in (MANIFEST, CALIBRATION) and re.fullmatch(FILE_NAME, path.name) is not None
    )


def task_of(config: dict[str, object]) -> Task:
    """What a model does, by the class that its config.json names; an unknown one is a language model.

    >>> task_of({"architectures": ["BertForSequenceClassification"]})
    'classify'
    """
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith("ForSequenceClassification"):
        return "classify"
    # All of them encoders; LlamaModel and the like are embedding models too
    return (
        "embed"
        if name.endswith(("Model", "ForMaskedLM")) and not name.endswith("LMHeadModel")
        else "generate"
    )


def check_formats(folder: Path) -> None:
    """Raise ModelFormatError or RemoteCodeError for what could run code, anywhere below the folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in REFUSED_SUFFIXES:
            raise ModelFormatError(
                f"{path}: models are read from safetensors and GGUF only, other formats can run code when "
                "they are loaded; remove the file, or convert the model to safetensors"
            )
    for path in sorted(folder.glob("*.json")):
        if path.name == CALIBRATION:  # no library reads it; calibration.py says better what is wrong with it
            continue
        if _asks_for_code(_read_json(path)):  # some are lists: sentence-transformers' modules.json
            raise RemoteCodeError(
                f"{path}: `auto_map` asks for Python code of the model's own, which is never run; use "
                "a model whose architecture transformers knows"
            )


def check_weights(folder: Path) -> tuple[Tensor, ...]:
    """All tensors of a model's safetensors files, each header checked.

    Raises MalformedFileError, and ModelFormatError if there are no such files.
    """
    paths = sorted(folder.glob(f"*{WEIGHT_SUFFIX}"))
    if not paths:
        raise ModelFormatError(
            f"{folder} holds no safetensors weights: use a model that is published with them"
        )
    index = folder / f"model{WEIGHT_SUFFIX}.index.json"
    if index.is_file():
        _check_index(index, {path.name for path in paths})
    return tuple(tensor for path in paths for tensor in read_safetensors_header(path))


def read_safetensors_header(path: Path) -> tuple[Tensor, ...]:
    """Tensors in the order of their bytes, which they must cover without gap or overlap.

    Raises MalformedFileError. Format: 8 bytes little-endian length, JSON header, data
    (huggingface.co/docs/safetensors, "Format").
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(size - 8, MAX_SAFETENSORS_HEADER_BYTES):
            raise MalformedFileError(
                f"{path}: not safetensors, its header would have {length} bytes of {size}"
            )
        header = _as_object(_parse(file.read(length), path), path)
    header.pop("__metadata__", None)
    tensors = sorted(
        (_tensor(path, name, entry) for name, entry in header.items()),
        key=lambda each: (each.begin, each.end),
    )
    position = 0
    for tensor in tensors:
        if tensor.begin != position:
            raise MalformedFileError(
                f"{path}: tensor {tensor.name!r} begins at {tensor.begin}, not {position}"
            )
        position = tensor.end
    if position != size - 8 - length:
        raise MalformedFileError(
            f"{path}: its tensors have {position} bytes, the file holds {size - 8 - length}; fetch it again"
        )
    return tuple(tensors)


def check_gguf(path: Path) -> None:
    """Raise MalformedFileError if the header of a GGUF file is not sane."""
    try:
        check_gguf_header(path)
    except GgufHeaderError as error:
        raise MalformedFileError(f"{path}: {error}; fetch it again") from error


def read_json_object(path: Path) -> dict[str, object]:
    """The JSON object in a model's file; MalformedFileError if it is not one."""
    return _as_object(_read_json(path), path)


def _read_json(path: Path) -> object:
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise MalformedFileError(f"{path}: {size} bytes, a model's JSON file has at most {MAX_JSON_BYTES}")
    return _parse(path.read_bytes(), path)


def _parse(text: bytes, path: Path) -> object:
    try:
        value: object = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedFileError(f"{path}: not valid JSON ({error}); fetch the model again") from error
    return value


def _as_object(value: object, path: Path) -> dict[str, object]:
    if not isinstance(value, dict):
        raise MalformedFileError(f"{path}: a JSON {type(value).__name__} where an object belongs")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Two readers that keep different ones of two equal keys would see two different models."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _asks_for_code(value: object) -> bool:
    """Whether `auto_map` is set anywhere; a vocabulary may have it as a token, with a number beside it."""
    return any(
        name == "auto_map" and not isinstance(entry, int)
        for each in _objects(value)
        for name, entry in each.items()
    )


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Every object of a JSON value; without recursion, the value may be nested as deep as the parser went."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            yield each
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)


def _tensor(path: Path, name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict):
        raise MalformedFileError(f"{path}: the header's entry {name!r} is no object")
    item_bytes = _DTYPE_BYTES.get(str(entry.get("dtype")))
    shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if item_bytes is None or shape is None or offsets is None or len(offsets) != 2:
        raise MalformedFileError(f"{path}: tensor {name!r} has no usable dtype, shape or data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * item_bytes:
        raise MalformedFileError(
            f"{path}: tensor {name!r} has {end - begin} bytes, which its shape does not fill"
        )
    return Tensor(name, shape, begin, end)


def _counts(value: object) -> tuple[int, ...] | None:
    """A list of counts, or None if it is none; `true` is an int to Python and no count here."""
    if not isinstance(value, list) or any(type(each) is not int or each < 0 for each in value):
        return None
    return tuple(value)


def _check_index(path: Path, present: set[str]) -> None:
    """A sharded model's index may only name files of its own folder."""
    names = read_json_object(path).get("weight_map")
    named = set(names.values()) if isinstance(names, dict) else None
    if named is None or not named <= present:
        raise MalformedFileError(
            f"{path}: it names weights that are not in the folder; fetch the model again"
        )
