"""The network that is trained: an encoder with LoRA adapters and a classification head.

The module also encodes examples, averages the trained members, and writes the adapter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from jobs.errors import ConfigurationError
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.data import Example
from kinds.classifier.training_spec import Recipe
from workers.engines.adapter import linear_parts
from workers.engines.loading import private_copy
from workers.models.adapters import ADAPTER, ADAPTER_SETTINGS
from workers.models.preparation import SETTINGS
from workers.models.reading import ModelFiles

EVALUATION_BATCH = 64

Encoded = tuple[list[int], list[int]]
"""Token ids and token types of one example."""


class BaseModelError(ConfigurationError):
    """The base model cannot be fine-tuned into a classifier."""

    code = "training_base_unusable"


def with_adapters(model: PreTrainedModel, recipe: Recipe, *, base: str) -> torch.nn.Module:
    """Add LoRA to every linear layer of the encoder; the modules after the encoder are trained in full.

    Raises BaseModelError if the model has no encoder layers that are followed by a head.
    """
    inner, linear = linear_parts(model)
    outer = sorted({_owner(name) for name in linear})
    if not inner or not outer:
        raise BaseModelError(
            f"{type(model).__name__} has no encoder layers followed by a head: use a model of the BERT family"
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
    """Return the name of the module to train in full for a linear layer: bert.pooler.dense -> pooler."""
    parts = name.split(".")
    return parts[-2] if parts[-1] in {"dense", "out_proj"} else parts[-1]


def trainable(net: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name."""
    return {name: each for name, each in net.named_parameters() if each.requires_grad}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of examples as int64 tensors of shape (examples, tokens of the longest example)."""

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
        """Encode pairs of text and target.

        Targets are cut to 200 characters; a pair that is still too long loses the end of its text.
        """
        encoded: list[Encoded] = [([], [])] * len(pairs)
        for paired in (True, False):
            places = [place for place, (_, target) in enumerate(pairs) if bool(target) is paired]
            if not places:
                continue
            second = [pairs[place][1][:200] for place in places] if paired else None
            tokens = self._tokenizer(
                [pairs[place][0] for place in places],
                second,
                truncation="only_first" if paired else True,
                max_length=self.max_tokens,
                return_token_type_ids=True,
            )
            rows = zip(places, tokens["input_ids"], tokens["token_type_ids"], strict=True)
            for place, input_ids, token_type_ids in rows:
                encoded[place] = (input_ids, token_type_ids)
        return encoded

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Return the encoded examples as a batch, padded to the length of the longest."""
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
    output = net(**inputs)
    logits: Tensor = output.logits.float()
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


BYTES = 256
"""Number of values of a byte: one random byte decides whether an element is dropped."""


class ByteDropout(torch.nn.Dropout):
    """A dropout that draws one byte per element, so its probability is rounded to a multiple of 1 / 256.

    It subclasses torch.nn.Dropout for models that read `p` and apply dropout themselves.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self._num_dropped = round(p * BYTES)
        self._scale = BYTES / (BYTES - self._num_dropped)

    def forward(self, input: Tensor) -> Tensor:
        """Apply dropout to `input` of any shape and float dtype.

        Each 64-bit number from torch's generator decides on eight elements.
        """
        if not self.training or not self._num_dropped:
            return input
        draws = torch.empty((input.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: input.numel()].view(input.shape).ge_(self._num_dropped)
        return input * kept.to(input.dtype).mul_(self._scale)


def use_byte_dropout(net: torch.nn.Module) -> None:
    """Replace every torch.nn.Dropout whose probability is below 255 / 256 with a ByteDropout."""
    for part in list(net.modules()):
        for name, inner in list(part.named_children()):
            if isinstance(inner, torch.nn.Dropout) and inner.p < 1 - 1 / BYTES:
                setattr(part, name, ByteDropout(inner.p))


LOW, HIGH = ".lora_A.", ".lora_B."
"""Parts of peft's parameter names that mark the factors A and B; their product B A is added to a weight."""


def mean_of_members(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of every parameter by name; for a LoRA pair, factors of the mean of the products.

    The rank of that mean can be the sum of the members' ranks, so its best approximation at one member's rank
    is used (Eckart, Young 1936). The mean is better than its members only if all of them start from the same
    weights (Wortsman et al. 2022, "Model soups").
    """
    first, *others = members
    if not others:
        return dict(first)
    mean: dict[str, Tensor] = {}
    for name in first:
        if LOW in name:
            high = name.replace(LOW, HIGH)
            mean[name], mean[high] = _mean_factors(
                [each[name] for each in members], [each[high] for each in members]
            )
        elif HIGH not in name:
            mean[name] = torch.stack([each[name] for each in members]).mean(dim=0)
    return {name: mean[name] for name in first}


def _mean_factors(low: Sequence[Tensor], high: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return A of shape (rank, in) and B of shape (out, rank) with B A nearest to the mean of the products.

    The products are never formed. With the factors of all members side by side, B = Q R and A' = P S,
    where ' denotes the transpose, the singular values of B A are those of R S', a square matrix whose size is
    the sum of the ranks.
    """
    rank, dtype = len(low[0]), low[0].dtype
    high_basis, high_parts = torch.linalg.qr(torch.cat(list(high), dim=1).double() / len(high))
    low_basis, low_parts = torch.linalg.qr(torch.cat(list(low), dim=0).double().T)
    left, values, right = torch.linalg.svd(high_parts @ low_parts.T)
    roots = values[:rank].sqrt()
    mean_low = roots[:, None] * (right[:rank] @ low_basis.T)
    mean_high = (high_basis @ left[:, :rank]) * roots
    return mean_low.to(dtype), mean_high.to(dtype)


def write_adapter(net: torch.nn.Module, folder: Path) -> None:
    """Round the trained parameters to fp16, also in the network, and write them into the folder."""
    with torch.no_grad():
        for each in trainable(net).values():
            each.copy_(each.half().float())
    state = get_peft_model_state_dict(net, save_embedding_layers=False)
    tensors = {name: each.detach().half().contiguous() for name, each in sorted(state.items())}
    save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
    os.chmod(folder / ADAPTER, 0o644)
    settings = net.peft_config["default"].to_dict()  # type: ignore[index,union-attr]
    kept = {name: _plain(value) for name, value in sorted(settings.items()) if value is not None}
    kept["inference_mode"] = True
    (folder / ADAPTER_SETTINGS).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def shift_head(net: torch.nn.Module, offsets: Sequence[float]) -> bool:
    """Add the offsets to the bias of the head, and so to the logits; return False if no bias is trained."""
    heads = [
        part
        for part in net.modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == len(LABELS) and part.bias is not None
    ]
    trained = [part.bias for part in heads if part.bias.requires_grad]
    if not trained:
        return False
    with torch.no_grad():
        trained[-1].add_(torch.tensor(list(offsets)))
    return True


def classifier_settings(*, temperature: float, with_targets: bool, max_tokens: int) -> dict[str, object]:
    """Return the content of classifier.json: the model's input format and the meaning of its outputs."""
    return {
        "labels": {label: place for place, label in enumerate(LABELS)},
        "temperature": temperature,
        "input": "text_and_target" if with_targets else "text",
        "max_tokens": max_tokens,
    }


def _plain(value: Any) -> Any:
    """Return a setting as JSON; sets are sorted, so that the same training run writes the same file."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)
