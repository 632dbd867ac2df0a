"""Loads a transformers model from the bytes checked against the digests, with every tensor accounted for.

transformers only warns when a tensor of a checkpoint is missing, superfluous or of a different shape, and
fills missing ones with random numbers. Here each of these is an error.
"""

from __future__ import annotations

import struct
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel

from jobs.errors import ConfigurationError, PressroomError
from workers.engine import EngineOptions
from workers.models.files import (
    ModelIncompleteError,
    ModelUnloadableError,
    Tensor,
    keys_in_words,
    parse_json_object,
    parse_safetensors_header,
    weight_names,
)
from workers.models.reading import ModelFiles

_SETTINGS = ("config.json", "generation_config.json")
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


def open_device(options: EngineOptions) -> torch.device:
    """Return the device, after setting the process's thread count if the options specify one.

    Raises ConfigurationError if the device is a GPU and torch finds none.
    """
    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"torch {torch.__version__} finds no CUDA device: install its CUDA build and the driver, "
            "or use --device cpu",
            code="device_missing",
        )
    return device


def dtype_name(options: EngineOptions, device: torch.device) -> str:
    """Return the dtype that the options name, or the default of the device."""
    return options.dtype or ("float32" if device.type == "cpu" else "bfloat16")


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Raise MemoryError if the device runs out of memory in the block."""
    try:
        yield
    except RuntimeError as error:
        # CUDA has its own exception for this; the CPU allocator only has a message.
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        release_memory(device)
        raise MemoryError(str(error)) from error


def release_memory(device: torch.device) -> None:
    """Give cached memory back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def load_config(files: ModelFiles) -> PretrainedConfig:
    """Return the model's configuration as transformers reads it. Raises ModelUnloadableError."""
    kind = parse_json_object(files, _SETTINGS[0]).get("model_type")
    if kind is not None and kind not in CONFIG_MAPPING:
        raise ModelUnloadableError(
            f"{files.folder / _SETTINGS[0]}: transformers {transformers.__version__} does not know the "
            f"architecture {str(kind)[:60]!r}; use a model that it knows, or a newer version of Pressroom",
            code="model_unsupported",
        )
    with private_copy(files, _SETTINGS) as private:
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(
                private, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # of any type: the architecture's own code checks the configuration
            raise ModelUnloadableError(
                f"transformers cannot read the configuration {files.folder / _SETTINGS[0]} "
                f"({_first_line(error)}): fetch the model again"
            ) from error
    return config


@contextmanager
def private_copy(files: ModelFiles, names: Iterable[str]) -> Iterator[Path]:
    """Yield a private folder with copies of the named files that exist.

    The copies are written from the same bytes that were checked against the digests. The folder is for
    libraries that read files themselves; no other process writes to it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if files.has(name):
                (Path(folder) / name).write_bytes(files.read(name))
        yield Path(folder)


def load_model(
    files: ModelFiles,
    auto: Any,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    attention: str | None = None,
    unused_part: str | None = None,
    spare: Collection[str] = (),
) -> PreTrainedModel:
    """Load a model of the class that `auto`, such as AutoModelForCausalLM, selects.

    The model is on the CPU and in inference mode. `unused_part` is the name of a part that is never used and
    may be missing as a whole; `spare` names tensors that may be missing or superfluous. Raises
    ModelIncompleteError or ModelUnloadableError.
    """
    _check_precision(files, config)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            choice = outline(auto, config, attention)
            model: PreTrainedModel
            loading: dict[str, Any]
            model, loading = type(choice).from_pretrained(  # type: ignore[misc]
                None,
                config=choice.config,
                state_dict=read_tensors(files, dtype),
                dtype=dtype,
                attn_implementation=attention,
                ignore_mismatched_sizes=True,  # they are reported below
                output_loading_info=True,
            )
        except (PressroomError, MemoryError):
            raise
        except Exception as error:  # any type: the architecture's own code raises it
            raise ModelUnloadableError(
                f"the {config.model_type} model in {files.folder} cannot be loaded "
                f"({_first_line(error)}): fetch the model again, or use another model"
            ) from error
    part = [
        name for name in model.state_dict() if unused_part is not None and name.startswith(f"{unused_part}.")
    ]
    absent = part if loading["missing_keys"].issuperset(part) else []
    _check(files, loading, {*absent, *spare})
    torch.nn.Module.eval(model)  # through the base class: transformers' own wrapper is untyped
    return model


def outline(auto: Any, config: PretrainedConfig, attention: str | None = None) -> PreTrainedModel:
    """Return the model that the configuration describes, without memory for its tensors."""
    with torch.device("meta"):
        model: PreTrainedModel = auto.from_config(
            config, attn_implementation=attention, trust_remote_code=False
        )
    return model


def _check_precision(files: ModelFiles, config: PretrainedConfig) -> None:
    quantisation = getattr(config, "quantization_config", None)
    if quantisation:
        method = (
            quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation.quant_method
        )
        raise ModelUnloadableError(
            f"the {config.model_type} model in {files.folder} is quantised ({str(method)[:40]}): the "
            "engines compute only with weights in F32, F16 or BF16; use the original model without "
            "quantisation, or a GGUF file"
        )


def num_embeddings(model: PreTrainedModel) -> int:
    """Return the number of token ids that the model knows. Raises ModelUnloadableError."""
    weight = model.get_input_embeddings().weight
    if not isinstance(weight, torch.Tensor):
        raise ModelUnloadableError(
            f"the {model.config.model_type} model has no token embedding, so it cannot read text"
        )
    return weight.shape[0]


def read_tensors(files: ModelFiles, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return every tensor of the model's weight files by name, as views of the bytes that were checked."""
    tensors: dict[str, torch.Tensor] = {}
    for name in weight_names(files):
        body = files.read(name, max_bytes=None)
        for entry in parse_safetensors_header(files.folder / name, body):
            if entry.name in tensors:
                raise ModelIncompleteError(f"{files.folder}: tensor {entry.name!r} is in two files")
            tensor = _tensor(files.folder / name, body, entry)
            # Widening is lossless, and releases the file's bytes before the next file is read
            is_narrower = tensor.is_floating_point() and tensor.itemsize < dtype.itemsize
            tensors[entry.name] = tensor.to(dtype) if is_narrower else tensor
    return tensors


def _tensor(path: Path, body: bytearray, entry: Tensor) -> torch.Tensor:
    dtype = _DTYPES.get(entry.dtype)
    # Integer weights were scaled by a factor that no setting contains: they would be used unscaled.
    is_rounded = dtype and not dtype.is_floating_point and entry.name.endswith((".weight", ".bias"))
    if dtype is None or is_rounded:
        raise ModelUnloadableError(
            f"{path}: tensor {entry.name!r} has the type {entry.dtype}, which no engine here supports; "
            "use the weights in F32, F16 or BF16"
        )
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=dtype)
    begin = 8 + struct.unpack_from("<Q", body)[0] + entry.begin
    if begin % dtype.itemsize:  # the format does not align its data
        body, begin = body[begin : begin + entry.end - entry.begin], 0
    flat = torch.frombuffer(body, dtype=dtype, offset=begin, count=entry.num_parameters)
    return flat.view(entry.shape)


def _check(files: ModelFiles, loading: dict[str, Any], allowed: set[str]) -> None:
    problems = {
        "missing": sorted(loading["missing_keys"] - allowed),
        "unexpected": sorted(loading["unexpected_keys"] - allowed),
        "of a different shape": [
            f"{name} ({_shape(actual)}, expected {_shape(expected)})"
            for name, actual, expected in sorted(loading["mismatched_keys"])
        ],
        "not loaded": list(loading["error_msgs"]),
    }
    if any(problems.values()):
        raise ModelIncompleteError(f"{files.folder}: {keys_in_words(problems)}")


def _shape(sizes: Collection[int]) -> str:
    return "x".join(map(str, sizes)) or "a number"


def _first_line(error: Exception) -> str:
    """Return the type and the first line of a library's error, without advice about the hub and versions."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
