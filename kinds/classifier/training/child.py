"""One training in a process of its own: `python -m kinds.classifier.training.child WORK BASE [THREADS]`.

WORK contains order.json, data/SHA256.csv for each file and, if the training continues, a checkpoint in
checkpoints/; the result is written to result/. Each line on stdout is an event as JSON for the parent. The
process ends when its stdin is closed, so that it does not outlive the worker that started it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import PressroomError, TransientError
from kinds.classifier.order import LABELS, TrainingOrder
from kinds.classifier.training.data import LabelledData, read_labelled
from kinds.classifier.training.split import split_examples
from kinds.classifier.training.work import CHECKPOINTS, DATA, EXIT_REFUSED, ORDER, RESULT
from workers.child_process import begin_child
from workers.models.manifest import read_manifest

if TYPE_CHECKING:
    from kinds.classifier.training.checkpoint import Progress

PROGRESS_SECONDS = 1.0
"""Minimum seconds between two progress events without a new evaluation."""


def order_digest(order: TrainingOrder) -> str:
    """Return the digest by which a checkpoint is assigned to its order."""
    return hashlib.sha256(order.model_dump_json().encode()).hexdigest()


def train(work: Path, base: Path, num_threads: int | None) -> None:
    """Read and split the data, fit each member, calibrate and evaluate their mean, and write the result."""
    order = TrainingOrder.model_validate_json((work / ORDER).read_bytes())
    recipe = order.recipe
    data = _read(work, order)
    split = split_examples(
        [example for each in data for example in each.examples],
        seed=order.seed,
        dev_share=recipe.dev_share,
        test_share=recipe.test_share,
    )
    say("split", num_train=len(split.train), num_dev=len(split.dev), num_test=len(split.test))
    import torch  # only once the data are known to be usable, because it takes seconds

    from kinds.classifier.training.fit import Task, fit
    from kinds.classifier.training.network import Encoder, with_adapters
    from kinds.classifier.training.result import Made, write_result
    from workers.engines.adapter import load_classifier

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(mode=True)
    # No memory is read before it is written, and filling it would take 4% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(order.seed)  # for the new head and the adapters
    manifest = read_manifest(base)
    model = load_classifier(base, LABELS, manifest.digests)
    max_tokens = min(recipe.max_tokens, int(model.config.max_position_embeddings))
    encoder = Encoder(base, max_tokens, manifest.digests)
    net = with_adapters(model, recipe, base=order.base)
    folder = work / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    task = Task(split.train, split.dev, recipe, order.seed, order_digest(order), folder)
    progress = fit(net, encoder, task, _progress_events(), lambda path: say("checkpoint", file=path.name))
    made = Made(order, manifest, tuple(data), split, progress)
    write_result(work / RESULT, made, net, encoder)
    say("done")


def _read(work: Path, order: TrainingOrder) -> list[LabelledData]:
    return [
        read_labelled((work / DATA / f"{file.sha256}.csv").read_bytes(), file, number)
        for number, file in enumerate(order.files)
    ]


def _progress_events() -> Any:
    said_at = 0.0
    num_looks = 0

    def on_progress(progress: Progress, num_steps: int) -> None:
        nonlocal said_at, num_looks
        news = len(progress.history) > num_looks
        if not news and time.monotonic() - said_at < PROGRESS_SECONDS:
            return
        said_at, num_looks = time.monotonic(), len(progress.history)
        last = progress.history[-1] if progress.history else None
        best = max((each.macro_f1 for each in progress.history), default=None)
        say(
            "progress",
            step=progress.step,
            num_steps=num_steps,
            loss=None if last is None else round(last.loss, 4),
            dev_macro_f1=None if last is None else round(last.macro_f1, 4),
            best_dev_macro_f1=None if best is None else round(best, 4),
        )

    return on_progress


def say(event: str, **fields: object) -> None:
    """Write one event as a line for the parent."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the training; a PressroomError becomes the last event."""
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m kinds.classifier.training.child WORK_FOLDER BASE_FOLDER [THREADS]")
    begin_child(EXIT_REFUSED)
    warnings.simplefilter("ignore")
    threads = int(sys.argv[3]) if len(sys.argv) == 4 else None
    try:
        train(Path(sys.argv[1]), Path(sys.argv[2]), threads)
    except PressroomError as error:
        say("error", code=error.code, message=str(error), transient=isinstance(error, TransientError))
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
