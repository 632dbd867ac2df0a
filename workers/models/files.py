"""Checks the formats, headers and JSON files of a model folder before any library reads them.

The folder is not trusted: lengths are checked before data of that length are read, and no file is executed.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from jobs.errors import ConfigurationError, PermanentError
from workers.models.reading import MalformedFileError as MalformedFileError
from workers.models.reading import ModelFiles, open_regular, read_digested

MAX_FILES = 10_000
"""Maximum number of files below a model's folder; published models have a few dozen."""
MAX_JSON_DEPTH = 64
"""Maximum nesting of a JSON file, since libraries traverse it recursively; tokenizer.json files have about
ten levels."""
MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
"""Maximum size of a header, set by the format itself (safetensors/src/tensor.rs, MAX_HEADER_SIZE)."""

Task = Literal["generate", "classify", "embed"]
"""The task of a model: to generate text, to compute probabilities of classes, or to compute a vector."""

TOKENIZER = "tokenizer.json"
MANIFEST = "manifest.json"
"""Name of the file with an installed model's manifest, whose content manifest.py defines."""
CALIBRATION = "calibration.json"
"""Name of the file with a classifier's calibration, whose content calibration.py defines."""
CALIBRATION_PARTIAL_SUFFIX = ".calibration"
"""Suffix of the hidden file, beside the model folders, to which a calibration is written before it is
renamed."""
WEIGHT_SUFFIX = ".safetensors"
WEIGHTS = f"model{WEIGHT_SUFFIX}"
WEIGHTS_INDEX = f"{WEIGHTS}.index.json"
GGUF_SUFFIX = ".gguf"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Pattern of the name of an installed file: no path, not hidden, and nothing that a shell would interpret."""
REFUSED_SUFFIXES = frozenset(
    {".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".keras", ".msgpack", ".npy", ".npz", ".onnx"}
    | {".pb", ".pickle", ".pkl", ".pt", ".pth", ".tar", ".tflite", ".zip"}
    | {".dll", ".dylib", ".py", ".pyc", ".pyd", ".pyw", ".sh", ".so"}
)
"""Suffixes of code, pickles, and formats that can contain either; libraries may load such files unchecked."""

_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
)
"""Names of the setting for the number of positions, which differ between architectures. In transformers, the
`attribute_map` of a configuration maps them to one name."""
_NAMED_KEYS = 5
"""Maximum number of tensors that a message names; it gives only the number of the others."""

_KEY_CHARACTERS = 200

_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""Bytes of an item by type, from safetensors/src/tensor.rs, Dtype. Types smaller than a byte are left out,
because no engine here reads them."""


class ModelFormatError(PermanentError):
    """A model folder contains a file that could run code, or no weights in a supported format."""

    code = "model_format_refused"


class RemoteCodeError(PermanentError):
    """A model's JSON file requires Python code to be loaded."""

    code = "model_remote_code_refused"


class ModelIncompleteError(PermanentError):
    """The weights lack a tensor of the model, or have one that is superfluous or of a different shape."""

    code = "model_incomplete"


class ModelUnloadableError(ConfigurationError):
    """The files cannot be loaded as a model on this machine, or the process that tries to load them fails."""

    code = "model_unloadable"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header."""

    name: str
    dtype: str
    """Type in the format's notation, such as F32."""
    shape: tuple[int, ...]
    begin: int
    """Offset of the first byte from the end of the header."""
    end: int

    @property
    def num_parameters(self) -> int:
        return math.prod(self.shape)


def task_of(config: dict[str, object]) -> Task:
    """Return a model's task by the class that its config.json names; for an unknown class, "generate".

    >>> task_of({"architectures": ["BertForSequenceClassification"]})
    'classify'
    """
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith("ForSequenceClassification"):
        return "classify"
    # Classes with these endings are encoders, or decoders without a head, such as LlamaModel.
    return (
        "embed"
        if name.endswith(("Model", "ForMaskedLM")) and not name.endswith("LMHeadModel")
        else "generate"
    )


def max_positions_of(config: Mapping[str, object]) -> int | None:
    """Return the number of positions of a model, under any name of that setting; None for no limit.

    >>> max_positions_of({"n_positions": 1024})
    1024
    """
    for name in _POSITIONS:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def check_formats(folder: Path) -> None:
    """Raise ModelFormatError or RemoteCodeError for anything below the folder that could run code."""
    check_no_code(folder)
    for path in sorted(folder.glob("*.json")):
        if path.name == CALIBRATION:  # no library reads it, and calibration.py reports its errors better
            continue
        if _asks_for_code(_read_json(path)):  # modules.json of sentence-transformers is a list
            raise RemoteCodeError(
                f"{path}: `auto_map` requires Python code of the model, which is never run; use a "
                "model whose architecture transformers knows"
            )


def check_no_code(folder: Path) -> None:
    """Raise ModelFormatError for a file below the folder whose name shows that it could run code."""
    paths = list(islice(folder.rglob("*"), MAX_FILES + 1))
    if len(paths) > MAX_FILES:
        raise ModelFormatError(
            f"{folder} contains more than {MAX_FILES} files: give the folder of a single model"
        )
    for path in sorted(paths):
        if path.suffix.lower() in REFUSED_SUFFIXES:
            raise ModelFormatError(
                f"{path}: models are read only from safetensors and GGUF, because other formats can run code "
                "when they are loaded; remove the file, or convert the model to safetensors"
            )


def weight_names(files: ModelFiles) -> tuple[str, ...]:
    """Return the names of the weight files that a loader reads: one file, or those that an index names.

    Raises ModelFormatError if there are none, and MalformedFileError for an invalid index.
    """
    if files.has(WEIGHTS):
        return (WEIGHTS,)
    if not files.has(WEIGHTS_INDEX):
        raise ModelFormatError(
            f"{files.folder} contains no safetensors weights under the names {WEIGHTS} or {WEIGHTS_INDEX}: "
            "use a model that is published with them"
        )
    return tuple(sorted(set(_weight_map(files).values())))


def check_weights(folder: Path) -> tuple[Tensor, ...]:
    """Check the header of each safetensors file of a model, and the index; return all tensors.

    Raises MalformedFileError, ModelIncompleteError, and ModelFormatError if there are no such files.
    """
    files = ModelFiles(folder)
    names = weight_names(files)
    if absent := [name for name in names if not files.has(name)]:
        raise ModelIncompleteError(
            f"{folder / WEIGHTS_INDEX} names {', '.join(absent[:_NAMED_KEYS])}, which the folder does not "
            "contain: fetch the model again"
        )
    tensors = {name: read_safetensors_header(folder / name) for name in names}
    places = [(tensor.name, name) for name in names for tensor in tensors[name]]
    expected = _weight_map(files) if files.has(WEIGHTS_INDEX) else dict(places)
    problems = {
        "missing": sorted(expected.keys() - dict(places).keys()),
        "unexpected": sorted(key for key, name in places if expected.get(key) != name),
    }
    if any(problems.values()):
        raise ModelIncompleteError(
            f"{folder / WEIGHTS_INDEX}: {keys_in_words(problems)}; fetch the model again"
        )
    return tuple(tensor for name in names for tensor in tensors[name])


def _weight_map(files: ModelFiles) -> dict[str, str]:
    """Return the file of each tensor from a sharded model's index, which must name only files beside it."""
    path = files.folder / WEIGHTS_INDEX
    names = parse_json_object(files, WEIGHTS_INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise MalformedFileError(f"{path} has no weight_map: fetch the model again")
    for name in names.values():
        if not (isinstance(name, str) and re.fullmatch(FILE_NAME, name) and name.endswith(WEIGHT_SUFFIX)):
            raise MalformedFileError(
                f"{path} names {str(name)[:100]!r}, which is not a safetensors file in the folder: "
                "fetch the model again"
            )
    return names


def read_safetensors_header(path: Path) -> tuple[Tensor, ...]:
    """Return the tensors of a file in byte order; they must cover the file's data without gaps or overlaps.

    Raises MalformedFileError or NotAFileError. Format: 8 bytes little-endian length, JSON header, data
    (huggingface.co/docs/safetensors, "Format").
    """
    with open(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(8)
        return parse_safetensors_header(path, begin + file.read(_header_bytes(path, begin, size)), size)


def parse_safetensors_header(
    path: Path, body: bytes | bytearray, size: int | None = None
) -> tuple[Tensor, ...]:
    """Parse the first bytes of a file as read_safetensors_header does; `size` is that of the whole file."""
    size = len(body) if size is None else size
    length = _header_bytes(path, body, size)
    header = _as_object(_parse(bytes(body[8 : 8 + length]), path), path)
    header.pop("__metadata__", None)
    tensors = sorted(
        (_tensor(path, name, entry) for name, entry in header.items()),
        key=lambda each: (each.begin, each.end),
    )
    position = 0
    for tensor in tensors:
        if tensor.begin != position:
            raise MalformedFileError(
                f"{path}: tensor {tensor.name!r} begins at byte {tensor.begin} of the data, but byte "
                f"{position} is expected; fetch the model again"
            )
        position = tensor.end
    if position != size - 8 - length:
        raise MalformedFileError(
            f"{path}: its tensors have {position} bytes, but the file contains {size - 8 - length}; fetch "
            "the model again"
        )
    return tuple(tensors)


def _header_bytes(path: Path, body: bytes | bytearray, size: int) -> int:
    if len(body) < 8:
        raise MalformedFileError(
            f"{path} is not a safetensors file, because it has only {len(body)} bytes: fetch the model again"
        )
    length: int = struct.unpack_from("<Q", body)[0]
    if not 2 <= length <= min(size - 8, MAX_SAFETENSORS_HEADER_BYTES):
        raise MalformedFileError(
            f"{path} is not a safetensors file, because its first 8 bytes are not a valid header length: "
            "fetch the model again"
        )
    return length


def keys_in_words(problems: Mapping[str, Sequence[str]]) -> str:
    """Describe which tensors are missing, unexpected or of a different shape: their number and some names.

    >>> keys_in_words({"missing": ["norm.weight"], "unexpected": []})
    '1 tensor is missing: norm.weight'
    """
    sentences = []
    for what, keys in problems.items():
        if keys:
            named = ", ".join(_key_in_words(key) for key in keys[:_NAMED_KEYS])
            more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
            count = "1 tensor is" if len(keys) == 1 else f"{len(keys)} tensors are"
            sentences.append(f"{count} {what}: {named}{more}")
    return "; ".join(sentences)


def _key_in_words(key: str) -> str:
    """Return a tensor's name in a printable form, since a file may use any name."""
    return key if key.isprintable() and len(key) <= _KEY_CHARACTERS else repr(key[:_KEY_CHARACTERS])


def read_json_object(path: Path) -> dict[str, object]:
    """Return the JSON object in a model's file. Raises MalformedFileError if it contains anything else."""
    return _as_object(_read_json(path), path)


def parse_json(files: ModelFiles, name: str) -> object:
    """Return the JSON value in a file of a model. Raises as ModelFiles.read does."""
    return _parse(files.read(name), files.folder / name)


def parse_json_object(files: ModelFiles, name: str) -> dict[str, object]:
    """Return the JSON object in a file of a model, verified by its digest. Raises as ModelFiles.read does."""
    return _as_object(parse_json(files, name), files.folder / name)


def _read_json(path: Path) -> object:
    try:
        body, _ = read_digested(path)
    except FileNotFoundError as error:
        raise MalformedFileError(f"{path} is missing: fetch the model again") from error
    return _parse(body, path)


def _parse(text: bytes | bytearray, path: Path) -> object:
    try:
        value: object = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedFileError(f"{path} is not valid JSON ({error}); fetch the model again") from error
    if _is_deeper(value, MAX_JSON_DEPTH):
        raise MalformedFileError(
            f"{path} is nested more than {MAX_JSON_DEPTH} levels deep, which no real model needs"
        )
    return value


def _is_deeper(value: object, depth: int) -> bool:
    """Return whether a JSON value has more than `depth` levels, without recursion."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _as_object(value: object, path: Path) -> dict[str, object]:
    if not isinstance(value, dict):
        raise MalformedFileError(f"{path} does not contain a JSON object; fetch the model again")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs as a dict; raise ValueError for a duplicate key.

    With a duplicate key, a reader that keeps the first value would see a different model from a reader that
    keeps the last.
    """
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice in an object")
    return value


def _asks_for_code(value: object) -> bool:
    """Return whether `auto_map` is set anywhere.

    Entries with an integer value are ignored, because there `auto_map` is a token of a vocabulary.
    """
    return any(
        name == "auto_map" and not isinstance(entry, int)
        for each in _objects(value)
        for name, entry in each.items()
    )


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Yield every object of a JSON value, without recursion, because the value may be deeply nested."""
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
        raise MalformedFileError(
            f"{path}: the entry {name!r} of the header is not an object; fetch the model again"
        )
    item_bytes = _DTYPE_BYTES.get(str(entry.get("dtype")))
    shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if item_bytes is None or shape is None or offsets is None or len(offsets) != 2:
        raise MalformedFileError(
            f"{path}: tensor {name!r} has no usable dtype, shape or data_offsets; fetch the model again"
        )
    begin, end = offsets
    if end - begin != math.prod(shape) * item_bytes:
        raise MalformedFileError(
            f"{path}: tensor {name!r} has {end - begin} bytes, which does not match its shape and type; "
            "fetch the model again"
        )
    return Tensor(name, str(entry.get("dtype")), shape, begin, end)


def _counts(value: object) -> tuple[int, ...] | None:
    """Return a list of non-negative integers; None for anything else, such as a list that contains `true`."""
    if not isinstance(value, list) or any(type(each) is not int or each < 0 for each in value):
        return None
    return tuple(value)
