"""GGUF -> safetensors in fp32 with tokenizer and template: `python -m workers.models.conversion SRC DST`.

install.py runs it as a child process, so that torch is never loaded in the caller. Needs the extra `engine`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.child_process import end_incomplete
from workers.models.files import ModelIncompleteError, keys_in_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def convert(source: Path, target: Path) -> None:
    """Write the model in the GGUF file `source` into the folder `target`, dequantised to fp32.

    For each model this takes about 25 CPU-seconds and six times the size of a 4-bit file. Raises
    ModelIncompleteError.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model: Any  # the library's types claim that only a model is returned
    loading: dict[str, Any]
    model, loading = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
        folder, gguf_file=name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )
    is_accounted_for = getattr(model.hf_quantizer, "supported", False)  # by the library's newer reader
    _check(source, loading, [] if is_accounted_for else _left_out(source, model))
    # save_pretrained refuses a model that was once quantised, although its weights are plain fp32 by now
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
        "of another shape": sorted(name for name, *_ in loading["mismatched_keys"]),
        "not loaded": list(loading["error_msgs"]),
    }
    if any(problems.values()):
        raise ModelIncompleteError(f"{source.name}: {keys_in_words(problems)}")


def _left_out(source: Path, model: PreTrainedModel) -> list[str]:
    """Return the names of the file's tensors that the library's older reader does not use.

    There are none if file and model contain equally many numbers, however the library splits and joins them.
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
        sys.exit("usage: python -m workers.models.conversion SOURCE.gguf TARGET_FOLDER")
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelIncompleteError as error:
        end_incomplete(error)


if __name__ == "__main__":
    main()
