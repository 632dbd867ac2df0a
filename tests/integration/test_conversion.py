"""GGUF -> safetensors in its child process, on a llama of two layers that is written here."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.tiny_model import CHAT_TEMPLATE
from workers.models.install import ConversionError, add_model
from workers.models.manifest import verify_model
from workers.models.sources import FolderSource
from workers.tokenizer import load_tokenizer

NUM_LAYERS, WIDTH, NUM_HEADS, FEED_FORWARD = 2, 64, 2, 128
TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(chr(code) for code in range(33, 127)),
    "Ġ",
    "he",
    "lo",
]


@pytest.fixture
def gguf_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "gguf"
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(["h e", "l o"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, shape in shapes().items():
        values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind(name)), raw_dtype=kind(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def kind(name: str) -> gguf.GGMLQuantizationType:
    """As in published files: matrices in 4 bits, vectors in full."""
    is_vector = name.endswith("norm.weight")
    return gguf.GGMLQuantizationType.F32 if is_vector else gguf.GGMLQuantizationType.Q4_1


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(NUM_LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found[f"blk.{layer}.{part}.weight"] = (WIDTH, WIDTH)
        for part in ("ffn_gate", "ffn_up"):
            found[f"blk.{layer}.{part}.weight"] = (FEED_FORWARD, WIDTH)
        found[f"blk.{layer}.ffn_down.weight"] = (WIDTH, FEED_FORWARD)
        for part in ("attn_norm", "ffn_norm"):
            found[f"blk.{layer}.{part}.weight"] = (WIDTH,)
    return found


def test_quantised_model_becomes_a_verified_fp32_folder(gguf_folder: Path, tmp_path: Path) -> None:
    installed = add_model("tiny", tmp_path / "models", FolderSource(gguf_folder))

    manifest = verify_model(installed.folder)
    assert (manifest.architecture, manifest.max_context_tokens) == ("LlamaForCausalLM", 256)
    assert manifest.num_parameters == sum(int(np.prod(shape)) for shape in shapes().values())
    weights = load_file(installed.folder / "model.safetensors")
    expected = gguf.quants.dequantize(
        next(
            tensor
            for tensor in gguf.GGUFReader(gguf_folder / "tiny.gguf").tensors
            if tensor.name == "blk.1.ffn_down.weight"
        ).data,
        gguf.GGMLQuantizationType.Q4_1,
    )
    converted = weights["model.layers.1.mlp.down_proj.weight"]
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted, expected)
    tokenizer = load_tokenizer(installed.folder)
    assert tokenizer.end_of_text_ids == {2}
    assert tokenizer.decode(tokenizer.encode_chat((("user", "hello there"),))) == "user hello thereassistant"


def test_conversion_that_fails_shows_why_and_leaves_nothing(gguf_folder: Path, tmp_path: Path) -> None:
    path = gguf_folder / "tiny.gguf"
    path.write_bytes(path.read_bytes().replace(b"general.architecture", b"general.architektur!"))

    with pytest.raises(ConversionError, match=r"Error: .*; check that the extra `engine`") as caught:
        add_model("tiny", tmp_path / "models", FolderSource(gguf_folder))

    assert caught.value.code == "model_conversion_failed"
    assert not list((tmp_path / "models").glob(".*.partial"))
