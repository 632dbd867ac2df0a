"""The transformers engine against transformers itself, on a tiny random model and on the default one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from jobs.errors import ConfigurationError, EngineError
from jobs.inference import Completion, Sampling
from tests.tiny_llama import END_OF_TEXT_ID, NUM_TOKENS, build_tiny_llama, write_tiny_llama
from workers.engine import Engine, EngineOptions, Request
from workers.engines.attention import slot_attention
from workers.engines.transformers import open_engine
from workers.models.files import ModelFormatError
from workers.tokenizer import load_tokenizer

SECONDS = 120.0
Prompt = tuple[int, ...]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Iterator[Engine]:
    options = EngineOptions(num_slots=6, max_context_tokens=900, max_prefill_tokens=256)
    opened = open_engine(tiny_folder, load_tokenizer(tiny_folder), options)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reference() -> LlamaForCausalLM:
    return build_tiny_llama()


def generated(model: Any, prompt: Prompt, num_tokens: int, penalty: float = 1.0) -> Prompt:
    """transformers' own greedy tokens, past any end of text."""
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            repetition_penalty=penalty,
        )
    return tuple(output[0, len(prompt) :].tolist())


def ask(engine: Engine, name: str, prompt: Prompt, num_tokens: int, penalty: float = 1.0) -> Completion:
    sampling = Sampling(max_new_tokens=num_tokens, ignore_end_of_text=True, repetition_penalty=penalty)
    return engine.submit(Request(request_id=name, prompt_ids=prompt, sampling=sampling)).result(SECONDS)


def random_prompt(length: int, seed: int) -> Prompt:
    draw = random.Random(seed)
    return tuple(draw.randrange(256) for _ in range(length))


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 255, 256, 257, 700])
def test_greedy_tokens_are_those_of_generate_at_every_length(
    engine: Engine, reference: LlamaForCausalLM, length: int
) -> None:
    """Crosses chunks of long prompts, growth of the cache and the rounding of what attention reads."""
    prompt = random_prompt(length, seed=length)
    done = ask(engine, f"length-{length}", prompt, 40)
    assert done.num_near_ties == 0
    assert done.token_ids == generated(reference, prompt, 40)


def test_repetition_penalty_is_that_of_generate(engine: Engine, reference: LlamaForCausalLM) -> None:
    prompt = random_prompt(50, seed=5)
    plain = generated(reference, prompt, 40)
    penalised = generated(reference, prompt, 40, penalty=1.7)
    assert penalised != plain
    assert ask(engine, "penalised", prompt, 40, penalty=1.7).token_ids == penalised


def test_batches_with_a_shared_prefix_write_what_generate_writes(
    engine: Engine, reference: LlamaForCausalLM
) -> None:
    shared = random_prompt(120, seed=9)
    prompts = [shared + random_prompt(5 + 3 * n, seed=100 + n) for n in range(12)]
    futures = [
        engine.submit(
            Request(
                request_id=f"shared-{n}",
                prompt_ids=prompt,
                sampling=Sampling(max_new_tokens=10 + n, ignore_end_of_text=True),
            )
        )
        for n, prompt in enumerate(prompts)
    ]
    done = [future.result(SECONDS) for future in futures]
    assert [completion.token_ids for completion in done] == [
        generated(reference, prompt, 10 + n) for n, prompt in enumerate(prompts)
    ]
    assert sum(completion.usage.cached_tokens for completion in done) == 11 * 120


def test_near_ties_are_counted(tmp_path: Path) -> None:
    """With every output weight there twice, each greedy choice is between twins."""
    model = build_tiny_llama()
    with torch.no_grad():
        model.lm_head.weight[1::2] = model.lm_head.weight[0::2]
    folder = write_tiny_llama(tmp_path / "twins", model)
    opened = open_engine(folder, load_tokenizer(folder), EngineOptions(num_slots=2, max_context_tokens=100))
    try:
        assert ask(opened, "twins", (1, 2, 3), 12).num_near_ties == 12
    finally:
        opened.close()


def test_row_without_finite_logits_fails_alone_and_leaves_its_slot_clean(tmp_path: Path) -> None:
    model = build_tiny_llama()
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = float("nan")
    folder = write_tiny_llama(tmp_path / "nan", model)
    opened = open_engine(folder, load_tokenizer(folder), EngineOptions(num_slots=2, max_context_tokens=100))
    try:
        sampling = Sampling(max_new_tokens=8, ignore_end_of_text=True)
        bad = opened.submit(Request(request_id="bad", prompt_ids=(1,) * 60 + (7,), sampling=sampling))
        good = [ask(opened, f"good-{n}", (1, n + 20), 8) for n in range(6)]
        with pytest.raises(EngineError, match="no finite logits"):
            bad.result(SECONDS)
        assert [len(completion.token_ids) for completion in good] == [8] * 6
    finally:
        opened.close()


@pytest.mark.parametrize("num_shared", [0, 64, 70])
def test_attention_equals_attention_with_repeated_keys(num_shared: int) -> None:
    torch.manual_seed(3)
    num_rows, num_heads, group, num_read, size = 5, 2, 3, 96, 16
    query = torch.randn(num_rows, num_heads * group, 1, size)
    key, value = torch.randn(2, num_rows, num_heads, num_read + 7, size).unbind(0)
    key[:, :, :num_shared] = key[:1, :, :num_shared]
    value[:, :, :num_shared] = value[:1, :, :num_shared]
    key, value = key[:, :, :num_read], value[:, :, :num_read]
    lengths = torch.tensor([71, 80, 96, 75, 90])
    mask = torch.zeros(num_rows, 1, 1, num_read)
    mask[torch.arange(num_read) >= lengths[:, None, None, None]] = float("-inf")
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), attn_mask=mask, scale=0.3
    ).transpose(1, 2)
    module = torch.nn.Identity()
    got, _ = slot_attention(module, query, key, value, mask, scaling=0.3, num_shared_tokens=num_shared)
    torch.testing.assert_close(got, expected)


def test_unknown_architecture_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "refused")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    with pytest.raises(ConfigurationError, match="no-such-model"):
        open_engine(folder, load_tokenizer(folder), EngineOptions())


def test_weights_other_than_safetensors_are_not_read(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "pickled")
    torch.save(build_tiny_llama().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match="safetensors"):
        open_engine(folder, load_tokenizer(folder), EngineOptions())


def test_loading_writes_nothing_to_the_terminal(tiny_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workers.engine import EngineOptions;"
        "from workers.engines.transformers import open_engine; from workers.tokenizer import load_tokenizer;"
        "folder = Path(sys.argv[1]);"
        "engine = open_engine(folder, load_tokenizer(folder), EngineOptions(num_slots=2, num_threads=1));"
        "engine.warm(); engine.close()"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tiny_folder)], capture_output=True, timeout=300)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


@pytest.mark.parametrize("minimum", [0, 1, 7, 20])
def test_bias_penalty_and_minimum_length_change_tokens_as_generate_does(
    engine: Engine, reference: LlamaForCausalLM, minimum: int
) -> None:
    """The bias makes the end of text likely, so the text ends once it may."""
    model: Any = reference
    prompt = random_prompt(40, seed=9)
    bias = ((END_OF_TEXT_ID, 30.0), (65, 2.5), (66, -100.0))
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            min_new_tokens=minimum,
            do_sample=False,
            repetition_penalty=1.2,
            sequence_bias=[[[token_id], value] for token_id, value in bias],
            eos_token_id=END_OF_TEXT_ID,
            pad_token_id=0,
        )
    sampling = Sampling(max_new_tokens=20, min_new_tokens=minimum, repetition_penalty=1.2, logit_bias=bias)
    request = Request(request_id=f"minimum-{minimum}", prompt_ids=prompt, sampling=sampling)
    done = engine.submit(request).result(SECONDS)
    assert done.token_ids == tuple(output[0, len(prompt) :].tolist())
    assert len(done.token_ids) == min(minimum + 1, 20)


PINNED_PROMPTS = (
    "Write two sentences about tides.",
    "Explain to a child why bread rises.",
    "List three facts about owls.",
    "Describe a harbour at night in one paragraph.",
)


def test_default_model_writes_what_generate_writes_alone_and_together(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    prompts = [tokenizer.encode_chat((("user", text),)) for text in PINNED_PROMPTS]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected = [generated(model, prompt, 24) for prompt in prompts]
    del model
    engine = open_engine(model_folder, tokenizer, EngineOptions(num_slots=4, max_context_tokens=512))
    try:
        alone = ask(engine, "alone", prompts[0], 24)
        sampling = Sampling(max_new_tokens=24, ignore_end_of_text=True)
        futures = [
            engine.submit(Request(request_id=f"r{n}", prompt_ids=prompt, sampling=sampling))
            for n, prompt in enumerate(reversed(prompts))
        ]
        together = [future.result(SECONDS) for future in futures]
    finally:
        engine.close()
    assert alone.token_ids == expected[0]
    assert [completion.token_ids for completion in reversed(together)] == expected
    assert alone.text == tokenizer.decode(alone.token_ids)
    assert max(max(completion.token_ids) for completion in together) > NUM_TOKENS
