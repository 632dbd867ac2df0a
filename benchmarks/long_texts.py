"""Compares rules for the mood of a document with several sentences, made from labelled headlines.

`python -m benchmarks.long_texts --data DIR [--model NAME]` makes documents that are each about one company of
SEntFiN. A document consists of one headline, whose label is the expected result, and of neutral headlines in
which the company is replaced by this one. The labelled headline comes first, as in news that opens with its
message, or at a random place. All headlines are from the dev and test parts, on which the installed model was
not trained. They are split into sentences, linked and classified like other documents. Three rules are
compared: the first passage, the least neutral of several passages (which Pressroom uses), and their mean.
Macro-F1 is printed and stored in benchmarks/results/long_texts.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine_facts, write_result
from jobs.classification import classification_figures
from jobs.documents.document import Document
from jobs.errors import PressroomError
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.train import PreparedTraining, prepare, read_plan
from kinds.classifier.training.data import Example, split_examples
from kinds.sentiment.documents.linking import Linker, Passage
from kinds.sentiment.documents.prepare import prepare as prepare_document
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.stages.documents import decisive_passage, question
from workers.models.adapters import BUNDLED
from workers.models.manifest import model_folder
from workers.settings import DEFAULT_CLASSIFIER, read_settings

NUM_SENTENCES = (1, 2, 3, 5)
MAX_PASSAGES = (1, 2, 3, 5)
SEED = 5
NEUTRAL = LABELS.index("neutral")

Probabilities = tuple[float, float, float]
Answers = Mapping[Passage, Probabilities]
Rule = Callable[[Sequence[Passage], Answers], Sequence[float]]


def main() -> None:
    """Parse the arguments, measure all rules, and print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--model", default=DEFAULT_CLASSIFIER, help="installed model")
    given = parser.parse_args()
    models = read_settings().models_folder
    try:
        prepared = prepare(read_plan(BUNDLED / DEFAULT_CLASSIFIER / "training.toml"), given.data, models)
        folder = model_folder(models, given.model)
    except PressroomError as error:
        sys.stderr.write(f"error [{error.code}]: {error}\n")
        sys.exit(2)
    rows = []
    for part, headlines in held_out(prepared).items():
        for is_first, num_sentences in product((True, False), NUM_SENTENCES):
            texts = put_together(headlines, num_sentences, is_first=is_first)
            rows.append(
                {
                    "part": part,
                    "num_sentences": num_sentences,
                    "label_stands": "first" if is_first else "anywhere",
                    "num_documents": len(texts),
                    "macro_f1": measure(folder, headlines, texts),
                }
            )
            show(rows[-1])
    path = write_result("long_texts", {"machine": machine_facts(), "model": given.model, "rows": rows})
    sys.stdout.write(f"kept in {path}\n")


def held_out(prepared: PreparedTraining) -> dict[str, list[Example]]:
    """Return the dev and test headlines about a single company that contain the name in its label."""
    recipe, seed = prepared.spec.recipe, prepared.spec.seed
    examples = [example for data in prepared.data for example in data.examples]
    split = split_examples(examples, seed=seed, dev_share=recipe.dev_share, test_share=recipe.test_share)
    return {"dev": _named(split.dev, prepared), "test": _named(split.test, prepared)}


def _named(examples: Sequence[Example], prepared: PreparedTraining) -> list[Example]:
    own = [each for each in examples if prepared.spec.files[each.file].targets]
    num_targets = Counter(each.line for each in own)
    return [each for each in own if num_targets[each.line] == 1 and each.target and each.target in each.text]


def put_together(headlines: Sequence[Example], num_sentences: int, *, is_first: bool) -> list[str]:
    """Return one text for each headline, in which the headline comes first or at a random place."""
    rng = Random(SEED)
    neutral = [each for each in headlines if each.label == NEUTRAL]
    texts = []
    for one in headlines:
        others = rng.sample([each for each in neutral if each is not one], num_sentences - 1)
        sentences = [other.text.replace(other.target, one.target) for other in others]
        sentences.insert(0 if is_first else rng.randrange(num_sentences), one.text)
        texts.append(" ".join(f"{sentence.rstrip('. ')}." for sentence in sentences))
    return texts


def measure(folder: Path, headlines: Sequence[Example], texts: Sequence[str]) -> dict[str, float]:
    """Return the macro-F1 of each rule over the documents in which linking finds the company."""
    found = [passages_of(one.target, text) for one, text in zip(headlines, texts, strict=True)]
    linked = [(one.label, passages) for one, passages in zip(headlines, found, strict=True) if passages]
    answers = ask(folder, {passage for _, passages in linked for passage in passages})
    labels = np.array([label for label, _ in linked], np.int64)
    rules: dict[str, Rule] = {
        f"least neutral of {number}": partial(least_neutral, number) for number in MAX_PASSAGES
    }
    rules["mean of all"] = mean
    return {
        name: round(
            classification_figures(
                labels, np.array([rule(passages, answers) for _, passages in linked]), LABELS
            ).macro_f1,
            4,
        )
        for name, rule in rules.items()
    }


def least_neutral(number: int, passages: Sequence[Passage], answers: Answers) -> Sequence[float]:
    """Return the least neutral answer of the first `number` passages."""
    return decisive_passage(passages[:number], answers)[1]


def mean(passages: Sequence[Passage], answers: Answers) -> Sequence[float]:
    """Return the mean answer of all passages."""
    return tuple(np.mean([answers[each] for each in passages], axis=0).tolist())


def passages_of(name: str, text: str) -> tuple[Passage, ...]:
    """Return all passages of the document that name the company."""
    entity = Entity(id="one", kind=EntityKind.COMPANY, name=name)
    document = Document.model_validate({"id": "d", "text": text, "published_at": "2026-01-05T00:00:00Z"})
    links = Linker(Watchlist(name="w", entities=(entity,)), max_passages=max(MAX_PASSAGES)).link(
        prepare_document(document)
    )
    return links[0].passages if links else ()


def ask(folder: Path, passages: set[Passage]) -> Answers:
    """Return the calibrated probabilities of each passage."""
    from scipy.special import softmax

    from kinds.classifier.training.network import Encoder, predict
    from workers.engines.adapter import load_classifier

    settings = json.loads((folder / "classifier.json").read_bytes())
    model, encoder = load_classifier(folder, LABELS), Encoder(folder, int(settings["max_tokens"]))
    given = list(passages)
    pairs = [question(passage) for passage in given]
    examples = [Example(0, 0, pair.text, pair.target, NEUTRAL) for pair in pairs]
    logits = predict(model, encoder, examples, targets=True).double().numpy()
    rows: NDArray[np.float64] = softmax(logits / float(settings["temperature"]), axis=1)
    return {passage: tuple(row) for passage, row in zip(given, rows.tolist(), strict=True)}


def show(row: Mapping[str, object]) -> None:
    """Print one line of figures."""
    figures = row["macro_f1"]
    said = (
        ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        if isinstance(figures, dict)
        else ""
    )
    sys.stdout.write(
        f"{row['part']}, {row['num_sentences']} sentences, label {row['label_stands']}: {said}\n"
    )


if __name__ == "__main__":
    main()
