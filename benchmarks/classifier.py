"""Measures the sentiment classifier on public data sets: within its domain and across domains.

`python -m benchmarks.classifier --data DIR [--unseen DIR] [--model NAME] [--work DIR] [--reuse]` measures the
installed model on the test part of its own split. Then it trains one model on each set alone, with the code
and nearly the recipe of the default model, and measures it on the other set. With --unseen, it also measures
all three models on the sets of `classifier_unseen.toml`, on which no choice was based. Texts that are
near-duplicates of a model's own training texts are left out. Trainings run in parallel, in one thread each,
and an interrupted training continues from the work folder. The figures are printed and stored in
benchmarks/results/classifier.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts, write_result
from jobs.errors import PressroomError
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.train import PreparedTraining, prepare, read_plan
from kinds.classifier.training import CHECKPOINTS, DATA, RESULT, SPEC
from kinds.classifier.training.calibration import Floats
from kinds.classifier.training.data import Example, near_duplicate_groups, split_examples
from kinds.classifier.training.result import evaluate
from kinds.classifier.training_spec import LabelledFile, Plan, Recipe, TrainingSpec
from workers.child_process import start_child
from workers.models.adapters import BUNDLED
from workers.models.manifest import model_folder
from workers.settings import DEFAULT_CLASSIFIER, read_settings

BASELINES = {"in domain": {"sentfin": 0.832, "twitter": 0.780}, "across": {"sentfin": 0.63, "twitter": 0.62}}
"""Macro-F1 of TF-IDF + MiniLM + lexicons by tested set, measured earlier on the same sets."""

UNSEEN = Path(__file__).with_name("classifier_unseen.toml")

CROSS = {"epochs": 3, "members": 4, "mixed_texts_alone": True, "test_share": 0.05}
"""Changes to the recipe for training on one set.

One set is only half of the data. The test uses the other set, so hardly any of this one is held out, and
members are trained faster. Posts of another source name no target, so the model must learn from the text
alone.
"""


def main() -> None:
    """Parse the arguments, measure all models, and print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--unseen", type=Path, help="folder of sets that no choice was made with")
    parser.add_argument("--model", default=DEFAULT_CLASSIFIER, help="installed model")
    parser.add_argument("--work", type=Path, help="folder for trainings that may go on")
    parser.add_argument("--reuse", action="store_true", help="take finished trainings from the work folder")
    given = parser.parse_args()
    models = read_settings().models_folder
    try:
        plan = read_plan(BUNDLED / DEFAULT_CLASSIFIER / "training.toml")
        prepared = prepare(plan, given.data, models)
        unseen = _unseen(plan, given.unseen, models) if given.unseen else None
        installed = model_folder(models, given.model)
    except PressroomError as error:
        sys.stderr.write(f"error [{error.code}]: {error}\n")
        sys.exit(2)
    work = given.work or Path(tempfile.mkdtemp(prefix="pressroom-classifier-"))
    base = model_folder(models, plan.base)
    with ThreadPoolExecutor(len(plan.files)) as pool:
        places = range(len(plan.files))
        merged = list(pool.map(lambda place: _train(prepared, place, base, work, reuse=given.reuse), places))
    trained = [_trained(prepared, place, folder) for place, folder in enumerate(merged)]
    result: dict[str, Any] = {
        "machine": machine_facts(),
        "split": {"seed": plan.seed, "test_share": plan.recipe.test_share},
        "baselines": BASELINES,
        "in_domain": _in_domain(prepared, installed),
        "across": [_across(one, prepared) for one in trained],
    }
    if unseen is not None:
        all_examples = tuple(each for data in prepared.data for each in data.examples)
        default = _Trained("both", all_examples, installed, _temperature(installed))
        result["unseen"] = [_on_unseen(one, unseen) for one in (default, *trained)]
    path = write_result("classifier", result)
    _print(result)
    sys.stdout.write(f"kept in {path}\n")


@dataclass(frozen=True, slots=True)
class _Trained:
    """A model with all examples that it was trained on or chosen by."""

    name: str
    examples: Sequence[Example]
    folder: Path
    temperature: float


def _unseen(plan: Plan, folder: Path, models: Path) -> PreparedTraining:
    """Return the sets that no choice was based on, read in the same way as the plan's own."""
    files = tuple(LabelledFile.model_validate(each) for each in tomllib.loads(UNSEEN.read_text())["files"])
    return prepare(plan.model_copy(update={"files": files}), folder, models)


def _trained(prepared: PreparedTraining, place: int, merged: Path) -> _Trained:
    name = _names(prepared.spec.files)[place]
    return _Trained(name, prepared.data[place].examples, merged, _temperature(merged.parent / RESULT))


def _in_domain(prepared: PreparedTraining, folder: Path) -> dict[str, object]:
    """Return figures of the installed model on the test part of the plan's own split."""
    spec = prepared.spec
    examples = [example for data in prepared.data for example in data.examples]
    shares = {"dev_share": spec.recipe.dev_share, "test_share": spec.recipe.test_share}
    split = split_examples(examples, seed=spec.seed, **shares)
    return _measure(folder, split.test, _names(spec.files), _temperature(folder))


def _train(prepared: PreparedTraining, number: int, base: Path, work: Path, *, reuse: bool) -> Path:
    """Train on one file alone, in its own process, and return the folder with the merged model."""
    file = prepared.spec.files[number]
    spec = prepared.spec.model_copy(
        update={"files": (file,), "recipe": prepared.spec.recipe.model_copy(update=CROSS)}
    )
    folder = work / Path(file.name).stem
    merged = folder / "merged"
    if reuse and merged.is_dir() and _spec_of(folder) == spec:
        return merged
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    if _spec_of(folder) != spec:
        for checkpoint in (folder / CHECKPOINTS).glob("*.safetensors"):
            checkpoint.unlink()
    (folder / SPEC).write_text(spec.model_dump_json())
    (folder / DATA / f"{file.sha256}.csv").write_bytes(prepared.bodies[file.sha256])
    with (folder / "events.jsonl").open("w") as events:
        _run("kinds.classifier.training.child", str(folder), str(base), "1", out=events.fileno())
    paths = (str(base), str(folder / RESULT), str(merged))
    _run("workers.engines.adapter", *paths, *LABELS, out=subprocess.DEVNULL)
    return merged


def _spec_of(folder: Path) -> TrainingSpec | None:
    path = folder / SPEC
    return TrainingSpec.model_validate_json(path.read_bytes()) if path.is_file() else None


def _run(module: str, *arguments: str, out: int) -> None:
    with start_child(module, *arguments, stdout=out) as process:
        if process.wait() != 0:
            raise RuntimeError(f"{module} ended with {process.returncode}")


def _across(trained: _Trained, prepared: PreparedTraining) -> dict[str, object]:
    """Return figures of the model of one set on the other sets."""
    names = _names(prepared.spec.files)
    others = [each for data in prepared.data for each in data.examples if names[each.file] != trained.name]
    recipe = prepared.spec.recipe.model_copy(update=CROSS)
    return {**_measured(trained, others, names), "recipe": recipe.model_dump()}


def _on_unseen(trained: _Trained, unseen: PreparedTraining) -> dict[str, object]:
    names = {place: Path(file.name).stem for place, file in enumerate(unseen.spec.files)}
    return _measured(trained, [each for data in unseen.data for each in data.examples], names)


def _measured(trained: _Trained, examples: Sequence[Example], names: Mapping[int, str]) -> dict[str, object]:
    """Return figures on texts that are not near-duplicates of anything the model may have seen."""
    unseen = _without_seen(trained.examples, examples)
    return {
        "trained_on": trained.name,
        "num_near_duplicates_left_out": len(examples) - len(unseen),
        "tested_on": _measure(trained.folder, unseen, names, trained.temperature),
    }


def _without_seen(own: Sequence[Example], others: Sequence[Example]) -> list[Example]:
    texts = [each.text for each in (*own, *others)]
    seen: set[int] = set()
    for group in near_duplicate_groups(texts):
        if group[0] < len(own):
            seen.update(group)
    return [each for place, each in enumerate(others, start=len(own)) if place not in seen]


def _measure(
    folder: Path, examples: Sequence[Example], names: Mapping[int, str], temperature: float
) -> dict[str, object]:
    from kinds.classifier.training.network import Encoder, predict
    from workers.engines.adapter import load_classifier

    model, encoder = load_classifier(folder, LABELS), Encoder(folder, Recipe().max_tokens)

    def logits(some: Sequence[Example], targets: bool) -> Floats:
        found: Floats = predict(model, encoder, some, targets=targets).double().numpy()
        return found

    return evaluate(logits, examples, names, temperature)


def _temperature(folder: Path) -> float:
    return float(json.loads((folder / "classifier.json").read_bytes())["temperature"])


def _names(files: Sequence[LabelledFile]) -> dict[int, str]:
    return {number: "sentfin" if file.targets else "twitter" for number, file in enumerate(files)}


def _print(result: Mapping[str, Any]) -> None:
    tested = [("in domain", result["in_domain"])]
    tested += [(f"trained on {each['trained_on']} alone", each["tested_on"]) for each in result["across"]]
    tested += [
        (f"unseen, trained on {each['trained_on']}", each["tested_on"]) for each in result.get("unseen", ())
    ]
    for how, by_name in tested:
        for name, subsets in by_name.items():
            for subset, found in subsets.items():
                sys.stdout.write(
                    f"{how}: {name}, {subset}: macro-F1 {found['macro_f1']:.3f}, accuracy "
                    f"{found['accuracy']:.3f}, calibration error {found['calibration_error']:.3f} "
                    f"({found['num_examples']} examples)\n"
                )


if __name__ == "__main__":
    main()
