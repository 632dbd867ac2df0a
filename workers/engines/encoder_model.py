"""Computes an encoder with transformers on one device: class probabilities or embeddings of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from jobs.errors import ConfigurationError
from workers.engine import EncoderInfo, EncoderRow, EncoderTask, EngineOptions, Vector
from workers.engines.loading import (
    dtype_name,
    load_config,
    load_model,
    memory_errors,
    num_embeddings,
    open_device,
    outline,
    release_memory,
)
from workers.engines.packed_linear import can_pack, pack_encoder
from workers.models.classifier import read_classifier_settings
from workers.models.files import ModelIncompleteError
from workers.models.reading import ModelFiles

_CPU_BATCH_TOKENS = 1_024
"""Default tokens per batch on a CPU, measured on two cores. With nothing else running, 256 to 8,192 are
equally fast. While threads of jobs use the processor, 1,024 are 8% faster than 512; 2,048 are no faster and
take 130 MB more."""
_GPU_BATCH_TOKENS = 32_768
_STEP_TOKENS = 128
"""Fixed cost of a step, in tokens. Values from 16 to 512 are equally fast when nothing else runs, so the
exact value matters little."""


class TransformersEncoder:
    """Implements workers.engines.encoding.EncoderExecutor with a transformers model."""

    def __init__(
        self, model_folder: Path, max_tokens: int, options: EngineOptions, task: EncoderTask
    ) -> None:
        """Load the model from a local folder. Raises ConfigurationError.

        Sets the process's thread count if the options specify one, and silences transformers' progress bars.
        """
        self._device = open_device(options)
        is_cpu = self._device.type == "cpu"
        name = dtype_name(options, self._device)
        files = ModelFiles(model_folder, options.digests)
        self._model = _load(files, getattr(torch, name), self._device, task)
        self._num_tokens = num_embeddings(self._model)
        self._padding_id = int(self._model.config.pad_token_id or 0)
        self._has_types = getattr(self._model.config, "type_vocab_size", 0) > 1
        self._temperature = 1.0
        labels: tuple[str, ...] = ()
        if task == "classify":
            labels = self._read_classifier(model_folder, options.digests)
        is_packed = is_cpu and name == "float32" and can_pack()
        if is_packed:
            pack_encoder(self._model)
        self._info = EncoderInfo(
            name="encoder",
            task=task,
            versions=(("torch", str(torch.__version__)), ("transformers", transformers.__version__)),
            dtype=name,
            device=options.device,
            attention="sdpa" + (", packed weights" if is_packed else ""),
            max_batch_tokens=options.max_prefill_tokens
            or (_CPU_BATCH_TOKENS if is_cpu else _GPU_BATCH_TOKENS),
            max_tokens=max_tokens,
            labels=labels,
        )

    def _read_classifier(self, folder: Path, digests: Mapping[str, str] | None) -> tuple[str, ...]:
        """Store the temperature, and return the labels in the order of the outputs."""
        classifier = read_classifier_settings(folder, digests)
        self._temperature = classifier.temperature
        labels = classifier.names
        if self._model.config.num_labels != len(labels):
            raise ConfigurationError(
                f"the model in {folder} has {self._model.config.num_labels} outputs, but its "
                f"classifier.json names {len(labels)}: install it again, and name each output with --labels"
            )
        return labels

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    @property
    def step_tokens(self) -> int:
        return _STEP_TOKENS

    @staticmethod
    def use_one_core() -> None:
        """Use one core for everything that the calling thread computes."""
        torch.set_num_threads(1)
        torch.get_num_threads()  # fixes the number for this thread: later changes have no effect

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        longest = max(len(row.token_ids) for row in rows)
        with memory_errors(self._device), torch.inference_mode():
            inputs = self._inputs(rows, longest)
            output = self._model(**inputs)
            if self._info.task == "classify":
                answers = self._probabilities(output.logits)
            else:
                answers = _mean_of_tokens(output.last_hidden_state, inputs["attention_mask"])
            return [tuple(answer) for answer in answers.tolist()]

    def close(self) -> None:
        del self._model
        release_memory(self._device)

    def _inputs(self, rows: Sequence[EncoderRow], longest: int) -> dict[str, torch.Tensor]:
        """Return padded tensors of shape (rows, longest), int64."""
        padding = [(longest - len(row.token_ids)) for row in rows]
        ids = [row.token_ids + (self._padding_id,) * num for row, num in zip(rows, padding, strict=True)]
        mask = [(1,) * len(row.token_ids) + (0,) * num for row, num in zip(rows, padding, strict=True)]
        inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        if self._has_types:
            types = [row.type_ids + (0,) * num for row, num in zip(rows, padding, strict=True)]
            inputs["token_type_ids"] = torch.tensor(types)
        return {name: tensor.to(self._device, non_blocking=True) for name, tensor in inputs.items()}

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply temperature scaling in fp32: softmax(z / T), Guo et al. 2017, equation 9."""
        return (logits.float() / self._temperature).softmax(-1)


def _mean_of_tokens(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the tokens in the mask, scaled to Euclidean length 1: (R, S, D) -> (R, D) in fp32.

    This is the recipe of sentence-transformers' all-MiniLM-L6-v2 (its model card, `mean_pooling` and
    `F.normalize`).
    """
    weights = mask.unsqueeze(-1).float()
    mean = (states.float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(mean, dim=1)


def _load(files: ModelFiles, dtype: torch.dtype, device: torch.device, task: EncoderTask) -> PreTrainedModel:
    """Load the model from a local folder's safetensors; no code from the folder is run and no hub is used."""
    config = load_config(files)
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise ConfigurationError(f"the {config.model_type} model in {files.folder} is not an encoder")
    if task == "classify":
        model = _load_classifier(files, config, dtype)
    else:
        model = _load_embedder(files, config, dtype)
    torch.nn.Module.to(model, device)  # through the base class: transformers' own wrapper is untyped
    return model


def _load_classifier(files: ModelFiles, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    try:
        return load_model(files, AutoModelForSequenceClassification, config, dtype=dtype, attention="sdpa")
    except ModelIncompleteError as error:
        raise ModelIncompleteError(
            f"{error}; if the model is not a classifier yet, turn it into one with `pressroom train "
            "classifier`"
        ) from error


def _load_embedder(files: ModelFiles, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Load the model without a head; the head of a masked language model is ignored if present.

    The pooler is never used: the vector is the mean of the tokens.
    """
    is_masked = any(name.endswith("ForMaskedLM") for name in config.architectures or ())
    spare = outline(AutoModelForMaskedLM, config).state_dict() if is_masked else ()
    return load_model(
        files, AutoModel, config, dtype=dtype, attention="sdpa", unused_part="pooler", spare=spare
    )
