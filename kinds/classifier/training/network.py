"""An encoder with LoRA adapters and a classification head, and its logits for examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from jobs.errors import ConfigurationError
from kinds.classifier.order import LABELS, Recipe
from kinds.classifier.training.data import Example
from kinds.classifier.training.dropout import use_byte_dropout
from workers.engines.adapter import linear_parts
from workers.engines.loading import private_copy
from workers.models.preparation import SETTINGS
from workers.models.reading import ModelFiles

EVALUATION_BATCH = 64

Encoded = tuple[list[int], list[int]]
"""Token ids and token types of one example."""


class BaseModelError(ConfigurationError):
    """The base model cannot be fine-tuned to a classifier."""

    code = "training_base_unusable"


def with_adapters(model: PreTrainedModel, recipe: Recipe, *, base: str) -> torch.nn.Module:
    """Add LoRA to every linear map of the encoder's layers; the parts behind them are trained completely."""
    inner, linear = linear_parts(model)
    outer = sorted({_owner(name) for name in linear})
    if not inner or not outer:
        raise BaseModelError(
            f"{type(model).__name__} has no encoder layers with a head behind them: take a model of the BERT "
            "family"
        )
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.rank,
        lora_dropout=recipe.adapter_dropout,
        target_modules=inner,
        modules_to_save=outer,
        task_type="SEQ_CLS",
    )
    net: torch.nn.Module = get_peft_model(model, config)
    use_byte_dropout(net)
    net.peft_config["default"].base_model_name_or_path = base  # type: ignore[index,union-attr]
    return net


def _owner(name: str) -> str:
    """Return the completely trained part that a linear map belongs to: bert.pooler.dense -> pooler."""
    parts = name.split(".")
    return parts[-2] if parts[-1] in {"dense", "out_proj"} else parts[-1]


def trainable(net: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name."""
    return {name: each for name, each in net.named_parameters() if each.requires_grad}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of examples as int64 tensors of shape (examples, longest)."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None
    """Token types; None for a model without them, such as DistilBERT."""


class Encoder:
    """Converts examples to token ids, from the pair (text, target) or from the text alone."""

    def __init__(self, folder: Path, max_tokens: int, digests: Mapping[str, str] | None = None) -> None:
        """Load the tokenizer of the model in the folder; `digests` are those of the model's manifest."""
        with private_copy(ModelFiles(folder, digests), SETTINGS) as private:
            self._tokenizer = AutoTokenizer.from_pretrained(private, local_files_only=True)
        self.max_tokens = max_tokens
        self._pad_id = int(self._tokenizer.pad_token_id or 0)
        self._has_types = "token_type_ids" in self._tokenizer.model_input_names

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Encode pairs of text and target; a text that is too long loses its end, but the target is kept."""
        encoded: list[Encoded] = [([], [])] * len(pairs)
        for paired in (True, False):
            places = [place for place, (_, target) in enumerate(pairs) if bool(target) is paired]
            if not places:
                continue
            second = [pairs[place][1][:200] for place in places] if paired else None
            made = self._tokenizer(
                [pairs[place][0] for place in places],
                second,
                truncation="only_first" if paired else True,
                max_length=self.max_tokens,
                return_token_type_ids=True,
            )
            rows = zip(places, made["input_ids"], made["token_type_ids"], strict=True)
            for place, input_ids, token_type_ids in rows:
                encoded[place] = (input_ids, token_type_ids)
        return encoded

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Return the rows as a batch, padded to the longest."""
        longest = max(len(ids) for ids, _ in rows)
        input_ids = torch.full((len(rows), longest), self._pad_id, dtype=torch.long)
        token_type_ids = torch.zeros_like(input_ids)
        attention_mask = torch.zeros_like(input_ids)
        for place, (ids, types) in enumerate(rows):
            input_ids[place, : len(ids)] = torch.tensor(ids)
            token_type_ids[place, : len(ids)] = torch.tensor(types)
            attention_mask[place, : len(ids)] = 1
        return Batch(input_ids, attention_mask, token_type_ids if self._has_types else None)


def forward(net: torch.nn.Module, batch: Batch) -> Tensor:
    """Return the logits in fp32, of shape (examples, classes in the order of LABELS)."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    made = net(**inputs)
    logits: Tensor = made.logits.float()
    return logits


def predict(
    net: torch.nn.Module, encoder: Encoder, examples: Iterable[Example], *, targets: bool = True
) -> Tensor:
    """Return the logits of the examples, in order; with `targets=False` the model sees only the texts."""
    rows = encoder.encode([(each.text, each.target if targets else "") for each in examples])
    logits = torch.zeros(len(rows), len(LABELS))
    net.train(False)
    with torch.inference_mode():
        for places in _by_length(rows):
            logits[places] = forward(net, encoder.collate([rows[place] for place in places]))
    net.train(True)
    return logits


def _by_length(rows: Sequence[Encoded]) -> Iterator[list[int]]:
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][0]))
    for start in range(0, len(order), EVALUATION_BATCH):
        yield order[start : start + EVALUATION_BATCH]
