"""The sentiment classifier on public sets: in its own domain, and trained on one set and tested on the other.

`python -m benchmarks.classifier --data DIR [--model NAME] [--work DIR] [--reuse]`: measures the installed
model on the test part of its own split, then trains one model on each set alone, by the code and nearly the
recipe that made the default, and measures it on the other set, without texts that are near-duplicates of its
own. Trainings run side by side, a thread each, and go on where they were left in the work folder. Prints the
figures and keeps them in benchmarks/results/classifier.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.machine import machine_facts, write_result
from jobs.errors import PressroomError
from jobs.training import LabelledFile, TrainingOrder
from pressroom.train_plan import Prepared, prepare, read_plan
from workers.models.adapters import BUNDLED
from workers.models.manifest import model_folder
from workers.settings import DEFAULT_CLASSIFIER, read_settings
from workers.training.calibrate import Floats
from workers.training.data import Example
from workers.training.figures import evaluate
from workers.training.split import near_duplicate_groups, split_examples
from workers.training.work import CHECKPOINTS, DATA, ORDER, RESULT

BASELINES = {"in domain": {"sentfin": 0.832, "twitter": 0.780}, "across": {"sentfin": 0.63, "twitter": 0.62}}
"""Macro-F1 of TF-IDF + MiniLM + lexicons, measured on the same sets before; by the set that is tested."""

CROSS = {"epochs": 3, "members": 4, "mixed_texts_alone": True, "test_share": 0.05}
"""One set is half the data, so none of it is kept back for a test that the other set is, and members are
trained faster; a stranger's posts name no target, so that text alone is what must be learnt."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--model", default=DEFAULT_CLASSIFIER, help="installed model")
    parser.add_argument("--work", type=Path, help="folder for trainings that may go on")
    parser.add_argument("--reuse", action="store_true", help="take finished trainings from the work folder")
    given = parser.parse_args()
    models = read_settings().models_folder
    try:
        plan = read_plan(BUNDLED / DEFAULT_CLASSIFIER / "training.toml")
        prepared = prepare(plan, given.data, models)
        model_folder(models, given.model)
    except PressroomError as error:
        sys.stderr.write(f"error [{error.code}]: {error}\n")
        sys.exit(2)
    work = given.work or Path(tempfile.mkdtemp(prefix="pressroom-classifier-"))
    base = model_folder(models, plan.base)
    with ThreadPoolExecutor(len(plan.files)) as pool:
        trainings = [
            pool.submit(_train, prepared, number, base, work, reuse=given.reuse)
            for number in range(len(plan.files))
        ]
        result = {
            "machine": machine_facts(),
            "split": {"seed": plan.seed, "test_share": plan.recipe.test_share},
            "baselines": BASELINES,
            "in_domain": _in_domain(prepared, model_folder(models, given.model)),
            "across": [
                _across(prepared, number, training.result()) for number, training in enumerate(trainings)
            ],
        }
    path = write_result("classifier", result)
    _print(result)
    sys.stdout.write(f"kept in {path}\n")


def _in_domain(prepared: Prepared, folder: Path) -> dict[str, object]:
    """Figures of the installed model on the test part of the plan's own split."""
    order = prepared.order
    examples = [example for data in prepared.data for example in data.examples]
    shares = {"dev_share": order.recipe.dev_share, "test_share": order.recipe.test_share}
    split = split_examples(examples, seed=order.seed, **shares)
    return _measure(folder, split.test, _names(order.files))


def _train(prepared: Prepared, number: int, base: Path, work: Path, *, reuse: bool) -> Path:
    """Train on one file alone, in a process; the folder with the merged model."""
    file = prepared.order.files[number]
    order = prepared.order.model_copy(
        update={"files": (file,), "recipe": prepared.order.recipe.model_copy(update=CROSS)}
    )
    folder = work / Path(file.name).stem
    merged = folder / "merged"
    if reuse and merged.is_dir() and _order_of(folder) == order:
        return merged
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    if _order_of(folder) != order:
        for checkpoint in (folder / CHECKPOINTS).glob("*.safetensors"):
            checkpoint.unlink()
    (folder / ORDER).write_text(order.model_dump_json())
    (folder / DATA / f"{file.sha256}.csv").write_bytes(prepared.bodies[file.sha256])
    with (folder / "events.jsonl").open("w") as events:
        _run("workers.training.child", str(folder), str(base), "1", out=events.fileno())
    _run("workers.training.merge", str(base), str(folder / RESULT), str(merged), out=subprocess.DEVNULL)
    return merged


def _order_of(folder: Path) -> TrainingOrder | None:
    path = folder / ORDER
    return TrainingOrder.model_validate_json(path.read_bytes()) if path.is_file() else None


def _run(module: str, *arguments: str, out: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=out
    ) as process:
        if process.wait() != 0:
            raise RuntimeError(f"{module} ended with {process.returncode}")


def _across(prepared: Prepared, number: int, merged: Path) -> dict[str, object]:
    """Figures of the model of one set on the other sets, texts that it may have seen left out."""
    own, *_ = [data.examples for place, data in enumerate(prepared.data) if place == number]
    others = [each for place, data in enumerate(prepared.data) if place != number for each in data.examples]
    unseen = _without_seen(own, others)
    names = _names(prepared.order.files)
    recipe = prepared.order.recipe.model_copy(update=CROSS)
    return {
        "trained_on": names[number],
        "recipe": recipe.model_dump(),
        "num_near_duplicates_left_out": len(others) - len(unseen),
        "tested_on": _measure(merged, unseen, names, temperature=_temperature(merged.parent / RESULT)),
    }


def _without_seen(own: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    texts = [each.text for each in (*own, *others)]
    seen: set[int] = set()
    for group in near_duplicate_groups(texts):
        if group[0] < len(own):
            seen.update(group)
    return [each for place, each in enumerate(others, start=len(own)) if place not in seen]


def _measure(
    folder: Path, examples: Sequence[Example], names: Mapping[int, str], *, temperature: float | None = None
) -> dict[str, object]:
    from workers.training.network import Encoder, load_classifier, predict

    settings = json.loads((folder / "classifier.json").read_bytes()) if temperature is None else {}
    model, encoder = load_classifier(folder), Encoder(folder, int(settings.get("max_tokens", 96)))

    def logits(some: Sequence[Example], targets: bool) -> Floats:
        found: Floats = predict(model, encoder, some, targets=targets).double().numpy()
        return found

    return evaluate(logits, examples, names, temperature or float(settings["temperature"]))


def _temperature(result: Path) -> float:
    return float(json.loads((result / "classifier.json").read_bytes())["temperature"])


def _names(files: Sequence[LabelledFile]) -> dict[int, str]:
    return {number: "sentfin" if file.targets else "twitter" for number, file in enumerate(files)}


def _print(result: Mapping[str, object]) -> None:
    tested = [("in domain", result["in_domain"])]
    across = result["across"]
    if isinstance(across, list):
        tested += [(f"trained on {each['trained_on']} alone", each["tested_on"]) for each in across]
    for how, by_name in tested:
        for name, subsets in by_name.items() if isinstance(by_name, dict) else ():
            for subset, found in subsets.items():
                sys.stdout.write(
                    f"{how}: {name}, {subset}: macro-F1 {found['macro_f1']:.3f}, accuracy "
                    f"{found['accuracy']:.3f}, calibration error {found['calibration_error']:.3f} "
                    f"({found['num_examples']} examples)\n"
                )


if __name__ == "__main__":
    main()
