"""Trains a model in its own process: `python -m kinds.classifier.training.child WORK BASE [THREADS]`.

WORK contains spec.json, data/SHA256.csv for each file and, if an earlier run is continued, a checkpoint in
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
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training import CHECKPOINTS, DATA, EXIT_REFUSED, RESULT, SPEC
from kinds.classifier.training.data import LabelledData, read_labelled, split_examples
from kinds.classifier.training_spec import TrainingSpec
from workers.child_process import begin_child
from workers.models.manifest import read_manifest

if TYPE_CHECKING:
    from kinds.classifier.training.fit import Progress

PROGRESS_SECONDS = 1.0
"""Minimum seconds between two progress events without a new evaluation."""


def spec_digest(spec: TrainingSpec) -> str:
    """Return the digest that is stored in a checkpoint to identify its training run."""
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def train(work: Path, base: Path, num_threads: int | None) -> None:
    """Read and split the data, fit each member, calibrate and evaluate their mean, and write the result."""
    spec = TrainingSpec.model_validate_json((work / SPEC).read_bytes())
    recipe = spec.recipe
    data = _read(work, spec)
    split = split_examples(
        [example for each in data for example in each.examples],
        seed=spec.seed,
        dev_share=recipe.dev_share,
        test_share=recipe.test_share,
    )
    emit("split", num_train=len(split.train), num_dev=len(split.dev), num_test=len(split.test))
    import torch  # imported only after the data have been checked, because the import takes seconds

    from kinds.classifier.training.fit import Task, fit
    from kinds.classifier.training.network import Encoder, with_adapters
    from kinds.classifier.training.result import TrainingRun, write_result
    from workers.engines.adapter import load_classifier

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(mode=True)
    # Uninitialised memory is never read, so filling it is unnecessary and would take 4% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(spec.seed)  # for the new head and the adapters
    manifest = read_manifest(base)
    model = load_classifier(base, LABELS, manifest.digests)
    max_tokens = min(recipe.max_tokens, int(model.config.max_position_embeddings))
    encoder = Encoder(base, max_tokens, manifest.digests)
    net = with_adapters(model, recipe, base=spec.base)
    folder = work / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    task = Task(split.train, split.dev, recipe, spec.seed, spec_digest(spec), folder)
    progress = fit(net, encoder, task, _progress_events(), lambda path: emit("checkpoint", file=path.name))
    run = TrainingRun(spec, manifest, tuple(data), split, progress)
    write_result(work / RESULT, run, net, encoder)
    emit("done")


def _read(work: Path, spec: TrainingSpec) -> list[LabelledData]:
    return [
        read_labelled((work / DATA / f"{file.sha256}.csv").read_bytes(), file, number)
        for number, file in enumerate(spec.files)
    ]


def _progress_events() -> Any:
    reported_at = 0.0
    num_evaluations = 0

    def on_progress(progress: Progress, num_steps: int) -> None:
        nonlocal reported_at, num_evaluations
        is_new = len(progress.history) > num_evaluations
        if not is_new and time.monotonic() - reported_at < PROGRESS_SECONDS:
            return
        reported_at, num_evaluations = time.monotonic(), len(progress.history)
        last = progress.history[-1] if progress.history else None
        best = max((each.macro_f1 for each in progress.history), default=None)
        emit(
            "progress",
            step=progress.step,
            num_steps=num_steps,
            loss=None if last is None else round(last.loss, 4),
            dev_macro_f1=None if last is None else round(last.macro_f1, 4),
            best_dev_macro_f1=None if best is None else round(best, 4),
        )

    return on_progress


def emit(event: str, **fields: object) -> None:
    """Write one event as a line on stdout, for the parent process."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train the model; report a PressroomError as the last event."""
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m kinds.classifier.training.child WORK_FOLDER BASE_FOLDER [THREADS]")
    begin_child(EXIT_REFUSED)
    warnings.simplefilter("ignore")
    threads = int(sys.argv[3]) if len(sys.argv) == 4 else None
    try:
        train(Path(sys.argv[1]), Path(sys.argv[2]), threads)
    except PressroomError as error:
        emit("error", code=error.code, message=str(error), transient=isinstance(error, TransientError))
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
