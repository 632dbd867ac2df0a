"""Tries a model when it is added: loads it in a child process, as a worker would, and runs it on a few
tokens.

A model that cannot be loaded, lacks a tensor or produces nonsense is refused by `models add`, instead of
making a worker restart again and again. The results of the trial are stored in the manifest.

`try_model` runs `python -m workers.engines.trial FOLDER`, whose last line of stdout is a TrialAnswer. Only
the child loads torch.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import ConfigurationError, PressroomError
from workers.child_process import run_child
from workers.engine import EngineOptions, ModelUnsupportedError, Tokenizer
from workers.models.files import ModelIncompleteError, ModelUnloadableError
from workers.models.manifest import Manifest, Trial, read_untried_manifest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHILD = "workers.engines.trial"
"""Name of this module, which `try_model` runs in a child process."""

ENGINE_MISSING = "engine_not_installed"

PROMPT_LENGTHS = (3, 29, 11)
"""Lengths of the trial's prompts in tokens; they differ so that rows are padded if an engine pads them."""
NUM_NEW_TOKENS = 6
MAX_CONTEXT_TOKENS = EngineOptions().max_context_tokens
"""The context that a worker requests by default; longer texts are not tried."""
MAX_WORK = 100_000_000_000
"""Maximum product of a model's parameters and a prompt's tokens; this much work takes some seconds on two
cores. Longer prompts, which would try a sliding window or a LongRoPE threshold of a large model, are left
out; the engine's tests cover these with small models."""
TEXTS = (
    "Shares of the company rise.",
    "Profit falls",
    "The board meets on Monday, and nothing else happens.",
)
TRIAL_SECONDS = 300.0
"""Time limit for each of the engine's completions; the parent process limits the whole trial."""


class TrialAnswer(BaseModel):
    """The last line of the child's stdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: Trial | None = None
    code: str = ""
    message: str = ""


def try_model(folder: Path, *, num_parameters: int) -> Trial:
    """Load the model in the folder, whose manifest already exists, and run it.

    Raises ModelIncompleteError, or ConfigurationError with the code of the fault (`model_unloadable`,
    `model_labels_unknown`, `engine_not_installed`, or any other that loading raises).
    """
    ended = run_child(CHILD, str(folder), model_bytes=4 * num_parameters)
    try:
        answer = TrialAnswer.model_validate_json(ended.stdout.strip().rpartition("\n")[2])
    except ValidationError as error:
        raise ModelUnloadableError(
            f"{folder.name} cannot be loaded, because the process that tried to load it {ended.reason}; "
            "check that there is enough memory for the model"
        ) from error
    if answer.trial is not None:
        return answer.trial
    if answer.code == ModelIncompleteError.code:
        raise ModelIncompleteError(answer.message)
    raise ConfigurationError(answer.message, code=answer.code)


def main() -> None:
    """Try the model in the folder that the argument names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m workers.engines.trial FOLDER")
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # a library's output must not mix with the answer
        out.write("\n" + _answer(Path(sys.argv[1])).model_dump_json())


def _answer(folder: Path) -> TrialAnswer:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        message = (
            f"a model is loaded once when it is added, but no engine is installed ({error}): install the "
            "extra `pressroom[engine]`"
        )
        return TrialAnswer(code=ENGINE_MISSING, message=message)
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    try:
        manifest = read_untried_manifest(folder)
        engines = (
            _try_generator(folder, manifest)
            if manifest.task == "generate"
            else _try_encoder(folder, manifest)
        )
        return TrialAnswer(trial=Trial(engines=engines, versions=versions))
    except PressroomError as error:
        return TrialAnswer(code=error.code, message=str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        message = f"{folder.name} does not fit into the memory of this machine: {error}"
        return TrialAnswer(code="model_unloadable", message=message)


def _try_encoder(folder: Path, manifest: Manifest) -> dict[str, str]:
    from jobs.inference import TextPair
    from workers.engines.encoder_model import TransformersEncoder
    from workers.tokenizer import load_row_tokenizer

    rows = load_row_tokenizer(folder, manifest.digests)
    options = EngineOptions(digests=manifest.digests)
    if manifest.task == "generate":
        raise ValueError("a language model is not an encoder")
    encoder = TransformersEncoder(folder, rows.max_tokens, options, manifest.task)
    _check_vocabulary(folder, rows.num_tokens, encoder.num_tokens)
    vectors = encoder.encode(rows.encode([TextPair(text) for text in TEXTS]))
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise _nonsense(folder)
    return {"transformers": ""}


def _try_generator(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Run plain transformers, which knows most architectures, and compare our own engine's tokens with it."""
    from workers.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder, manifest.digests)
    prompts, expected = _generate(folder, manifest, tokenizer)
    try:
        return {"transformers": _compare(folder, manifest, tokenizer, prompts, expected)}
    except ModelUnsupportedError as error:
        return {"transformers": error.reason}


def _generate(
    folder: Path, manifest: Manifest, tokenizer: Tokenizer
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return prompts of token ids, and what transformers' generate() produces for each one alone."""
    import torch
    from transformers import AutoModelForCausalLM

    from workers.engines.decoder_model import threshold_lengths, unsupported
    from workers.engines.loading import load_config, load_model, num_embeddings
    from workers.models.reading import ModelFiles

    files = ModelFiles(folder, manifest.digests)
    config = load_config(files)
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise unsupported(config, "transformers has no text-only language model for it")
    model = load_model(files, AutoModelForCausalLM, config, dtype=torch.float32)
    num_tokens = num_embeddings(model)
    _check_vocabulary(folder, tokenizer.num_tokens, num_tokens)
    longest = max(1, min(manifest.max_context_tokens, MAX_CONTEXT_TOKENS) - NUM_NEW_TOKENS)
    bound = min(longest, MAX_WORK // max(1, manifest.num_parameters))
    lengths = {*(min(length, longest) for length in PROMPT_LENGTHS)}
    lengths |= {length for length in _telling_lengths(threshold_lengths(config)) if length <= bound}
    prompts = _prompts(min(num_tokens, tokenizer.num_tokens), sorted(lengths))
    return prompts, [_greedy(folder, model, prompt) for prompt in prompts]


def _telling_lengths(thresholds: Sequence[int]) -> list[int]:
    """Return prompt lengths at which the new tokens pass a threshold, and lengths beyond each threshold."""
    lengths = (threshold + more for threshold in thresholds for more in (-2, NUM_NEW_TOKENS))
    return [length for length in lengths if length > 0]


def _prompts(num_tokens: int, lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Return prompts of these lengths, with token ids from the whole vocabulary; their meaning does not
    matter."""
    return [tuple((length + 7919 * place) % num_tokens for place in range(length)) for length in lengths]


def _greedy(folder: Path, model: PreTrainedModel, prompt: Sequence[int]) -> tuple[int, ...]:
    """Return the greedy continuation of a prompt, whatever the model's generation_config.json specifies."""
    import torch
    from transformers import GenerationConfig

    ids = torch.tensor([prompt])
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=NUM_NEW_TOKENS, eos_token_id=None, pad_token_id=0, use_cache=True
    )
    with torch.no_grad():
        if not bool(model(ids).logits.isfinite().all()):
            raise _nonsense(folder)
        model.generation_config = settings
        generate = cast("Callable[..., torch.Tensor]", model.generate)
        output = generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return tuple(output[0, len(prompt) :].tolist())


def _compare(
    folder: Path,
    manifest: Manifest,
    tokenizer: Tokenizer,
    prompts: Sequence[tuple[int, ...]],
    expected: Sequence[tuple[int, ...]],
) -> str:
    """Compare our own engine's tokens with those of generate().

    Returns the reason why the engine cannot run the model, or an empty string if the tokens are equal.
    """
    from jobs.inference import Sampling
    from workers.engine import Request
    from workers.engines.transformers import open_engine

    options = EngineOptions(
        num_slots=len(prompts),
        max_context_tokens=MAX_CONTEXT_TOKENS,
        digests=manifest.digests,
    )
    sampling = Sampling(max_new_tokens=NUM_NEW_TOKENS, ignore_end_of_text=True)
    engine = open_engine(folder, tokenizer, options)
    try:
        futures = [
            engine.submit(Request(request_id=str(number), prompt_ids=prompt, sampling=sampling))
            for number, prompt in enumerate(prompts)
        ]
        completions = [future.result(TRIAL_SECONDS) for future in futures]
    finally:
        engine.close()
    for prompt, completion, tokens in zip(prompts, completions, expected, strict=True):
        if completion.token_ids != tokens and not completion.num_near_ties:
            return (
                "the engine and generate() of transformers generate different tokens for "
                f"{manifest.architecture} (after a prompt of {len(prompt)} tokens)"
            )
    return ""


def _check_vocabulary(folder: Path, tokenizer_tokens: int, model_tokens: int) -> None:
    if tokenizer_tokens > model_tokens:
        raise ConfigurationError(
            f"{folder}: the tokenizer has {tokenizer_tokens} tokens, but the weights have {model_tokens}, so "
            "they belong to different models: fetch tokenizer and weights from the same place",
            code="tokenizer_unusable",
        )


def _nonsense(folder: Path) -> ConfigurationError:
    return ConfigurationError(
        f"the model in {folder} computes NaN or infinite numbers, so its weights are damaged: fetch it again",
        code="model_unloadable",
    )


if __name__ == "__main__":
    main()
