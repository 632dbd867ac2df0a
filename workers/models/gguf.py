"""Checks the headers of GGUF files, and converts their weights to safetensors in fp32.

Format: github.com/ggml-org/ggml, docs/gguf.md: magic, version, counts, key-value pairs, tensor infos, data.
The header is checked before a library maps the file. `python -m workers.models.gguf SRC DST` converts in a
child process, so that torch is never loaded in the process that installs a model. This needs the extra
`engine`.
"""

from __future__ import annotations

import math
import mmap
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.child_process import end_incomplete
from workers.models.files import MalformedFileError, ModelIncompleteError, keys_in_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_ENTRIES = 1_000_000
"""Maximum number of keys, and of tensors, in a file; the largest models have a few thousand."""
MAX_ARRAY_ITEMS = 10_000_000
"""Maximum number of items in one array; vocabularies and merges have up to about 500,000."""
MAX_STRING_BYTES = 16 * 1024 * 1024
"""Maximum size of one string; chat templates have a few thousand bytes."""
MAX_DIMENSIONS = 4
"""Maximum number of dimensions of a tensor (ggml.h, GGML_MAX_DIMS)."""

_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Size in bytes by gguf_metadata_value_type; 8 is a string, 9 an array."""
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_DEFAULT_ALIGNMENT = 32


class GgufHeaderError(ValueError):
    """The header contradicts the format or the size of the file."""


def _check_header(path: Path) -> None:
    """Raise GgufHeaderError if the header contradicts the format, or exceeds a limit or the file's end."""
    with path.open("rb") as file:
        if path.stat().st_size < 24 or file.read(4) != b"GGUF":
            raise GgufHeaderError("this is not a GGUF file, because it does not begin with a GGUF header")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).header()


def check_gguf(path: Path) -> None:
    """Raise MalformedFileError if the header of a GGUF file is invalid."""
    try:
        _check_header(path)
    except GgufHeaderError as error:
        raise MalformedFileError(f"{path}: {error}; fetch it again") from error


class _Walk:
    """A read position in the file, which moves only forward and never past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._position = 4
        self._alignment = _DEFAULT_ALIGNMENT

    def header(self) -> None:
        if (version := self._number("<I")) not in (2, 3):
            raise GgufHeaderError(f"GGUF version {version} is not supported, only 2 and 3")
        num_tensors = self._bounded(MAX_ENTRIES, "the number of tensors is")
        num_pairs = self._bounded(MAX_ENTRIES, "the number of keys is")
        for _ in range(num_pairs):
            self._pair()
        offsets = [self._tensor() for _ in range(num_tensors)]
        begin = math.ceil(self._position / self._alignment) * self._alignment
        for offset in offsets:
            if offset % self._alignment or begin + offset >= len(self._data):
                raise GgufHeaderError(
                    f"a tensor begins at byte {offset}, which is outside of the file or unaligned"
                )

    def _pair(self) -> None:
        key = self._string()
        kind = self._number("<I")
        if key == b"general.alignment":
            self._alignment = self._number("<I") if kind == _UINT32 else 0
            if self._alignment == 0 or self._alignment % 8:
                raise GgufHeaderError("general.alignment is not a multiple of 8")
        else:
            self._value(kind)

    def _value(self, kind: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            self._array()
        else:
            self._skip(self._scalar_bytes(kind))

    def _array(self) -> None:
        kind = self._number("<I")
        length = self._bounded(MAX_ARRAY_ITEMS, "an array's number of items is")
        if kind == _STRING:
            for _ in range(length):
                self._string()
        else:  # an array of arrays is refused as an unknown type: the format allows it, but no model has one
            self._skip(length * self._scalar_bytes(kind))

    def _tensor(self) -> int:
        """Skip one tensor info and return its offset in the data."""
        self._string()
        num_dimensions = self._number("<I")
        if num_dimensions > MAX_DIMENSIONS:
            raise GgufHeaderError(f"a tensor has {num_dimensions} dimensions, more than {MAX_DIMENSIONS}")
        self._skip(8 * num_dimensions + 4)
        return self._number("<Q")

    def _string(self) -> bytes:
        length = self._bounded(MAX_STRING_BYTES, "a string's length in bytes is")
        begin = self._position
        self._skip(length)
        return self._data[begin : begin + length]

    def _bounded(self, limit: int, what: str) -> int:
        value = self._number("<Q")
        if value > limit:
            raise GgufHeaderError(f"{what} {value}, more than the maximum of {limit}")
        return value

    def _number(self, form: str) -> int:
        begin = self._position
        self._skip(struct.calcsize(form))
        number: int = struct.unpack_from(form, self._data, begin)[0]
        return number

    def _scalar_bytes(self, kind: int) -> int:
        if kind not in _SCALAR_BYTES:
            raise GgufHeaderError(f"a value has the unknown type {kind}")
        return _SCALAR_BYTES[kind]

    def _skip(self, num_bytes: int) -> None:
        self._position += num_bytes
        if self._position > len(self._data):
            raise GgufHeaderError(
                f"the file is too short: its header needs at least {self._position} bytes, but the file has "
                f"{len(self._data)}"
            )


def convert(source: Path, target: Path) -> None:
    """Write the model in the GGUF file `source` into the folder `target`, dequantised to fp32.

    A conversion takes about 25 CPU-seconds and, for a 4-bit file, six times the file's size on disk. Raises
    ModelIncompleteError.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model: Any  # according to the library's type hints, only a model is returned
    loading: dict[str, Any]
    model, loading = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
        folder, gguf_file=name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )
    is_accounted_for = getattr(model.hf_quantizer, "supported", False)  # the newer reader reports all tensors
    _check(source, loading, [] if is_accounted_for else _left_out(source, model))
    # save_pretrained refuses a model that was quantised, although its weights are plain fp32 now.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _check(source: Path, loading: Mapping[str, Any], surplus: Sequence[str]) -> None:
    """Raise ModelIncompleteError for missing or surplus tensors.

    The library only warns of missing tensors, and does not report what it leaves out.
    """
    problems = {
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted({*loading["unexpected_keys"], *surplus}),
        "of a different shape": sorted(name for name, *_ in loading["mismatched_keys"]),
        "not loaded": list(loading["error_msgs"]),
    }
    if any(problems.values()):
        raise ModelIncompleteError(f"{source.name}: {keys_in_words(problems)}")


def _left_out(source: Path, model: PreTrainedModel) -> list[str]:
    """Return the names of the file's tensors that the library's older reader does not use.

    If the file has no more elements than the model, no tensor was left out: the library has at most split or
    joined some of them.
    """
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import TensorProcessor, get_gguf_hf_weights_map

    tensors = GGUFReader(source).tensors
    num_loaded = sum({each.data_ptr(): each.numel() for each in model.state_dict().values()}.values())
    if sum(int(tensor.n_elements) for tensor in tensors) <= num_loaded:
        return []
    processor = TensorProcessor(config=model.config.to_dict())  # type: ignore[no-untyped-call]
    known = get_gguf_hf_weights_map(model, processor)
    return [tensor.name for tensor in tensors if tensor.name not in known]


def main() -> None:
    """Convert the file named by the first argument into the folder named by the second."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m workers.models.gguf SOURCE.gguf TARGET_FOLDER")
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelIncompleteError as error:
        end_incomplete(error)


if __name__ == "__main__":
    main()
