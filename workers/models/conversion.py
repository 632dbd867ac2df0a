"""GGUF -> safetensors in fp32 with tokenizer and template: `python -m workers.models.conversion SRC DST`.

Run as a child process by install.py, so that torch never loads in the caller. Needs the extra `engine`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def convert(source: Path, target: Path) -> None:
    """Write the model in the GGUF file `source` into the folder `target`, dequantised to fp32.

    About 25 CPU-seconds and six times the size of a 4-bit file for each model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # save_pretrained refuses a model that was quantised once, though its weights are plain fp32 by now
    model.hf_quantizer = None  # type: ignore[assignment]
    model.is_quantized = False  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> None:
    """Convert the file that the first argument names into the folder that the second one names."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m workers.models.conversion SOURCE.gguf TARGET_FOLDER")
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the file; nothing may be asked of a hub
    convert(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
