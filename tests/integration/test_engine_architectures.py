"""The transformers engine on tiny models of many architectures: generate()'s tokens, or a refusal by name."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from jobs.inference import Sampling
from tests.tiny_architectures import REFUSED, SUPPORTED, THRESHOLD, build
from tests.tiny_llama import write_tiny_llama
from workers.engine import EngineOptions, ModelUnsupportedError, Request
from workers.engines import trial
from workers.engines.transformers import open_engine
from workers.model_pool import load_models
from workers.models.install import add_model
from workers.models.manifest import Manifest, check_engine
from workers.models.sources import FolderSource
from workers.tokenizer import load_tokenizer

NUM_NEW_TOKENS = 12
SAMPLING = Sampling(max_new_tokens=NUM_NEW_TOKENS, ignore_end_of_text=True)
OPTIONS = EngineOptions(num_slots=4, max_context_tokens=300, max_prefill_tokens=48, num_threads=1)
SECONDS = 120.0
Prompt = tuple[int, ...]


def random_prompt(length: int) -> Prompt:
    draw = random.Random(length)
    return tuple(draw.randrange(256) for _ in range(length))


SHARED = random_prompt(THRESHOLD + 6)
PROMPTS = (
    random_prompt(20),  # beside a text of 100 tokens
    random_prompt(100),
    random_prompt(THRESHOLD - 5),  # grows past the threshold
    *(SHARED + random_prompt(length) for length in (2, 3, 4)),  # a shared prefix, and four rows with it
    random_prompt(THRESHOLD),
)


def generated(model: PreTrainedModel, prompt: Prompt) -> Prompt:
    """What transformers writes after a prompt alone."""
    generator: Any = model
    generator.generation_config.eos_token_id = None
    generator.generation_config.pad_token_id = 0
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = generator.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_NEW_TOKENS, do_sample=False
        )
    return tuple(output[0, len(prompt) :].tolist())


@pytest.mark.parametrize("architecture", SUPPORTED)
def test_texts_of_mixed_lengths_are_those_of_generate_alone(tmp_path: Path, architecture: str) -> None:
    """Lengths lie on both sides of the sliding window, and of the length at which LongRoPE changes."""
    model = build(*SUPPORTED[architecture])
    folder = write_tiny_llama(tmp_path, model)
    engine = open_engine(folder, load_tokenizer(folder), OPTIONS)
    try:
        futures = [
            engine.submit(Request(request_id=str(number), prompt_ids=prompt, sampling=SAMPLING))
            for number, prompt in enumerate(PROMPTS)
        ]
        together = [future.result(SECONDS).token_ids for future in futures]
        alone = engine.submit(Request(request_id="alone", prompt_ids=PROMPTS[0], sampling=SAMPLING))
        assert alone.result(SECONDS).token_ids == together[0]
    finally:
        engine.close()
    assert together == [generated(model, prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("architecture", REFUSED)
def test_architecture_that_the_slots_cannot_compute_is_refused_by_name(
    tmp_path: Path, architecture: str
) -> None:
    name, changes, message = REFUSED[architecture]
    folder = write_tiny_llama(tmp_path, build(name, changes))
    with pytest.raises(ModelUnsupportedError, match=message):
        open_engine(folder, load_tokenizer(folder), OPTIONS)


def add(folder: Path, architecture: str, table: Mapping[str, tuple[Any, ...]] = SUPPORTED) -> Manifest:
    """Install the model as `models add` does, trial included."""
    source = write_tiny_llama(folder / "source", build(*table[architecture][:2]))
    return add_model("tiny", folder / "models", FolderSource(source)).manifest


def test_add_records_which_engine_cannot_run_the_model(tmp_path: Path) -> None:
    manifest = add(tmp_path, "falcon", REFUSED)
    assert manifest.trial is not None
    assert "attention with its own code" in manifest.trial.engines["transformers"]
    check_engine(manifest, "scripted")
    with pytest.raises(ModelUnsupportedError, match="FalconForCausalLM") as raised:
        check_engine(manifest, "transformers")
    assert raised.value.code == "model_unsupported"
    with pytest.raises(ModelUnsupportedError, match="FalconForCausalLM"):
        load_models(tmp_path / "models", ["tiny"], engine="transformers", options=OPTIONS)


def test_model_without_max_position_embeddings_is_not_malformed(tmp_path: Path) -> None:
    manifest = add(tmp_path, "gpt2, learned positions")
    assert manifest.max_context_tokens == 512
    check_engine(manifest, "transformers")


def test_trial_passes_the_lengths_at_which_a_model_computes_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that keeps the short keys of a text that became long writes other tokens, and add sees it."""
    manifest = add(tmp_path, "phi3, longrope")
    assert manifest.trial is not None
    assert manifest.trial.engines == {"transformers": ""}
    monkeypatch.setattr("workers.engines.decoder_model._RECOMPUTING", frozenset())
    wrong = trial._answer(tmp_path / "models" / "tiny").trial
    assert wrong is not None
    assert "generate different tokens" in wrong.engines["transformers"]
