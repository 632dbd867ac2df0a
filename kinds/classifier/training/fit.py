"""The training loop and its checkpoints.

Random numbers are derived from the seed and the step, so that a restart does not change them. A checkpoint
contains the whole state in one safetensors file, which, unlike a pickle, cannot run code when it is loaded.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional

from jobs.errors import PermanentError
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.data import Example
from kinds.classifier.training.network import Encoded, Encoder, forward, mean_of_members, predict, trainable
from kinds.classifier.training_spec import Recipe

_NAME = re.compile(r"step-(\d{8})\.safetensors")


class CheckpointError(PermanentError):
    """A checkpoint belongs to a different training run."""

    code = "training_checkpoint_unusable"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation on the dev part."""

    step: int
    loss: float
    """Mean training loss since the previous evaluation."""
    macro_f1: float
    """Mean of macro-F1 over the files."""


@dataclass(frozen=True, slots=True)
class Member:
    """A finished member, which is one of the training runs whose mean is the model (`Recipe.members`)."""

    best_step: int
    """Step, counted over all members, at which the member had its best weights, which are kept."""
    macro_f1: float
    """Mean of macro-F1 over the files, on the dev part."""


@dataclass(slots=True)
class Progress:
    """The state of a training run without its tensors; random numbers depend only on the seed and `step`."""

    step: int = 0
    """Number of steps so far over all members; the steps that are omitted because a member ended early count,
    too."""
    loss_sum: float = 0.0
    loss_steps: int = 0
    best_f1: float = -1.0
    """Best dev macro-F1 of the member that is being trained."""
    best_step: int = 0
    seconds: float = 0.0
    """Training time so far in seconds, including the time before restarts."""
    history: list[Evaluation] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    """Members whose training has ended."""


def write_checkpoint(
    folder: Path, progress: Progress, groups: dict[str, dict[str, Tensor]], *, spec_sha256: str
) -> Path:
    """Write a checkpoint atomically and return its path; `groups` has the tensors by group and name."""
    path = folder / f"step-{progress.step:08d}.safetensors"
    partial = path.with_suffix(".partial")
    tensors = {
        f"{group}/{name}": each.contiguous()
        for group, named in groups.items()
        for name, each in named.items()
    }
    metadata = {"progress": json.dumps(asdict(progress)), "spec_sha256": spec_sha256}
    save_file(tensors, partial, metadata=metadata)
    os.replace(partial, path)
    return path


def read_newest(folder: Path, *, spec_sha256: str) -> tuple[Progress, dict[str, dict[str, Tensor]]] | None:
    """Return the state and tensors of the newest checkpoint; None if there is none.

    Raises CheckpointError if it belongs to a different training run.
    """
    paths = sorted(path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name))
    if not paths:
        return None
    groups: dict[str, dict[str, Tensor]] = {}
    with safe_open(paths[-1], framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("spec_sha256") != spec_sha256:
            raise CheckpointError(
                f"{paths[-1].name} belongs to a different training run: delete it to start from the beginning"
            )
        for key in file.keys():  # noqa: SIM118 - not a mapping
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = file.get_tensor(key)
    values = json.loads(metadata["progress"])
    values["history"] = [Evaluation(**each) for each in values["history"]]
    values["members"] = [Member(**each) for each in values["members"]]
    return Progress(**values), groups


def copied(named: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """Return copies of the current values of the parameters."""
    return {name: each.detach().clone() for name, each in named.items()}


def put(named: dict[str, torch.nn.Parameter], values: dict[str, Tensor]) -> None:
    """Copy the values into the parameters of the same names, in place."""
    with torch.no_grad():
        for name, each in named.items():
            each.copy_(values[name])


BUCKET_BATCHES = 40
"""Number of batches whose examples are sorted by length together. There is then little padding, and the order
of the batches is still random.
"""
LENGTH_NOISE = 2.0
"""Maximum of the random number added to a length in tokens before sorting.

It makes the order of examples with similar lengths vary.
"""
MAX_GRADIENT_NORM = 1.0
STEP_SEEDS = 1_000_003
"""Factor that keeps the dropout seeds of training runs with different seeds apart."""

OnProgress = Callable[[Progress, int], None]
"""Function that is called with the progress and the maximum number of steps."""


@dataclass(frozen=True, slots=True)
class Task:
    """The input of a training run: the data, the recipe, the seed, the digest of the specification, and the
    folder of checkpoints."""

    train: Sequence[Example]
    dev: Sequence[Example]
    recipe: Recipe
    seed: int
    spec_sha256: str
    checkpoints: Path


def fit(
    net: torch.nn.Module,
    encoder: Encoder,
    task: Task,
    on_progress: OnProgress,
    on_checkpoint: Callable[[Path], None],
) -> Progress:
    """Train the members in turn, each until its last epoch or until dev macro-F1 stops improving.

    At the end the network has the mean of the members' best weights.
    """
    training = _Training(net, encoder, task)
    training.resume()
    progress = training.progress
    while progress.step < training.num_steps:
        begun_at = time.monotonic()
        training.step()
        if training.own_step % training.evaluation_steps == 0 or training.own_step == training.member_steps:
            training.evaluate()
        if training.own_step == training.member_steps or training.is_patience_over():
            training.begin_next_member()
        progress.seconds += time.monotonic() - begun_at
        if progress.step % task.recipe.checkpoint_steps == 0 or training.own_step == 0:
            on_checkpoint(training.save())
        on_progress(progress, training.num_steps)
    put(training.parameters, mean_of_members(training.members))
    return progress


class _Training:
    def __init__(self, net: torch.nn.Module, encoder: Encoder, task: Task) -> None:
        self._net = net
        self._encoder = encoder
        self._task = task
        recipe = task.recipe
        self.parameters = trainable(net)
        self._beginning = copied(self.parameters)
        self._epoch_steps = math.ceil(len(task.train) / recipe.batch_size)
        self.member_steps = self._epoch_steps * recipe.epochs
        self.num_steps = self.member_steps * recipe.members
        self.evaluation_steps = math.ceil(self._epoch_steps / recipe.evaluations_per_epoch)
        self.progress = Progress()
        self.members: list[dict[str, Tensor]] = []
        self._begin_member()
        self._log_priors = log_priors(task.train)
        self._droppable = droppable_targets(task.train)
        self._epoch = -1
        self._batches: list[tuple[list[Encoded], list[int]]] = []
        net.train(True)

    @property
    def own_step(self) -> int:
        """Return the step within the current member; random numbers depend on the step over all members."""
        return self.progress.step - len(self.members) * self.member_steps

    def _begin_member(self) -> None:
        put(self.parameters, self._beginning)
        recipe = self._task.recipe
        self._optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._best = copied(self.parameters)
        self._average = copied(self.parameters) if recipe.average else {}

    def begin_next_member(self) -> None:
        """Keep the best weights of this member; the next one starts from the same initial weights."""
        progress = self.progress
        progress.members.append(Member(progress.best_step, progress.best_f1))
        progress.best_f1, progress.best_step = -1.0, 0
        self.members.append(self._best)
        progress.step = len(self.members) * self.member_steps
        self._begin_member()

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        checkpoint = read_newest(self._task.checkpoints, spec_sha256=self._task.spec_sha256)
        if checkpoint is None:
            return
        self.progress, groups = checkpoint
        self.members = [groups[f"member{number}"] for number in range(len(self.progress.members))]
        if not self.own_step:
            return
        put(self.parameters, groups["parameter"])
        self._best, self._average = groups["best"], groups.get("average", {})
        for name, parameter in self.parameters.items():
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(self.own_step)),
                "exp_avg": groups["moment1"][name],
                "exp_avg_sq": groups["moment2"][name],
            }

    def save(self) -> Path:
        """Write a checkpoint; if no member is in progress, it contains only the finished members."""
        groups = {f"member{number}": each for number, each in enumerate(self.members)}
        if self.own_step:
            state = {name: self._optimizer.state[each] for name, each in self.parameters.items()}
            groups |= {
                "parameter": copied(self.parameters),
                "best": self._best,
                "average": self._average,
                "moment1": {name: each["exp_avg"] for name, each in state.items()},
                "moment2": {name: each["exp_avg_sq"] for name, each in state.items()},
            }
        return write_checkpoint(
            self._task.checkpoints, self.progress, groups, spec_sha256=self._task.spec_sha256
        )

    def is_patience_over(self) -> bool:
        """Return whether at least `patience` evaluations of this member have followed its best one."""
        begun_at = len(self.members) * self.member_steps
        after = max(begun_at, self.progress.best_step)
        since = [each for each in self.progress.history if each.step > after]
        return len(since) >= self._task.recipe.patience

    def step(self) -> None:
        recipe, progress = self._task.recipe, self.progress
        rows, places = self._batch(progress.step)
        torch.manual_seed(self._task.seed * STEP_SEEDS + progress.step)
        labels = torch.tensor([self._task.train[place].label for place in places])
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            logits = forward(self._net, self._encoder.collate(rows))
        priors = [self._log_priors[self._task.train[place].file] for place in places]
        logits = logits + recipe.balance * torch.stack(priors)
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), MAX_GRADIENT_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * self._rate(self.own_step)
        self._optimizer.step()
        self._optimizer.zero_grad()
        progress.step += 1
        progress.loss_sum += float(loss.detach())
        progress.loss_steps += 1
        self._follow(min(recipe.average, self.own_step / (self.own_step + 10)))

    def _follow(self, decay: float) -> None:
        """Update the moving average; the decay starts low, so that the random initial head counts little."""
        if self._average:
            with torch.no_grad():
                for name, each in self.parameters.items():
                    self._average[name].lerp_(each, 1 - decay)

    def _rate(self, step: int) -> float:
        warmup = max(1, int(self._task.recipe.warmup_share * self.member_steps))
        if step < warmup:
            return (step + 1) / warmup
        return (self.member_steps - step) / max(1, self.member_steps - warmup)

    def evaluate(self) -> None:
        """Evaluate the current weights, or their moving average, on the dev part; keep the best so far."""
        progress, current = self.progress, copied(self.parameters)
        if self._average:
            put(self.parameters, self._average)
        score = dev_score(predict(self._net, self._encoder, self._task.dev), self._task.dev)
        progress.history.append(
            Evaluation(progress.step, progress.loss_sum / max(1, progress.loss_steps), score)
        )
        progress.loss_sum, progress.loss_steps = 0.0, 0
        if score > progress.best_f1:
            progress.best_f1, progress.best_step = score, progress.step
            self._best = copied(self.parameters)
        put(self.parameters, current)

    def _batch(self, step: int) -> tuple[list[Encoded], list[int]]:
        epoch, place = divmod(step, self._epoch_steps)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return self._batches[place]

    def _plan(self, epoch: int) -> list[tuple[list[Encoded], list[int]]]:
        """Return an epoch's batches; omitted targets, composition and order are drawn at random."""
        recipe = self._task.recipe
        draw = random.Random(f"{self._task.seed}/{epoch}")  # noqa: S311 - a reproducible draw
        places = list(range(len(self._task.train)))
        draw.shuffle(places)
        pairs = []
        for place in places:
            example = self._task.train[place]
            may_drop = recipe.mixed_texts_alone or self._droppable[place]
            dropped = draw.random() < recipe.target_dropout and may_drop
            pairs.append((example.text, "" if dropped else example.target))
        rows = self._encoder.encode(pairs)
        batches = []
        window = recipe.batch_size * BUCKET_BATCHES
        for start in range(0, len(rows), window):
            bucket = sorted(
                range(start, min(len(rows), start + window)),
                key=lambda at: len(rows[at][0]) + draw.random() * LENGTH_NOISE,
            )
            for first in range(0, len(bucket), recipe.batch_size):
                chosen = bucket[first : first + recipe.batch_size]
                batches.append(([rows[at] for at in chosen], [places[at] for at in chosen]))
        draw.shuffle(batches)
        return batches


def log_priors(examples: Sequence[Example]) -> dict[int, Tensor]:
    """Return the log share of each label in each file, with add-one smoothing."""
    priors = {}
    for file in {example.file for example in examples}:
        counts = Counter(example.label for example in examples if example.file == file)
        shares = torch.tensor([counts[place] + 1.0 for place in range(len(LABELS))])
        priors[file] = (shares / shares.sum()).log()
    return priors


def droppable_targets(examples: Sequence[Example]) -> list[bool]:
    """Return for each example whether its label is valid without the target.

    A label is not valid without the target if the targets of the text have different labels.
    """
    labels: dict[tuple[int, int], set[int]] = {}
    for example in examples:
        labels.setdefault((example.file, example.line), set()).add(example.label)
    return [len(labels[example.file, example.line]) == 1 for example in examples]


def dev_score(logits: Tensor, examples: Sequence[Example]) -> float:
    """Return the mean of macro-F1 over the files, so that a large file does not outweigh a small one."""
    predicted = logits.argmax(dim=1).tolist()
    scores = []
    for file in sorted({example.file for example in examples}):
        pairs = [
            (each.label, guess) for each, guess in zip(examples, predicted, strict=True) if each.file == file
        ]
        true, guessed = zip(*pairs, strict=True)
        scores.append(f1_score(true, guessed, labels=range(len(LABELS)), average="macro", zero_division=0))
    return float(sum(scores) / len(scores))
