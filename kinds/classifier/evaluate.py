"""`pressroom evaluate sentiment`: classifies a labelled file as a batch of blocks, and measures the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from db import batches
from db.batches import batch_settings
from db.stages import NewJob
from jobs.batch import BatchStatusReport
from jobs.classification import ClassificationFigures, classification_figures
from jobs.errors import InputError
from jobs.rejection import DroppedTally, Rejected
from jobs.shown import json_text, plural
from kinds.classifier.labelled_texts import LABELS, LabelledInput, LabelledText
from kinds.classifier.sentiment_labels import BLOCK_TEXTS, LabelPrediction, text_digest
from pressroom.export import export_errors
from pressroom.output import new_file, replace_text
from pressroom.results import ResultReader
from pressroom.summary import Summary
from storage.store import Store
from workers.intake import BatchRequest
from workers.models.manifest import require_labels
from workers.producer import Submission, new_batch
from workers.settings import Profile, Settings

KIND = "sentiment_labels"
PROFILE = "evaluate"
"""Name of the worker profile that has only the evaluated model."""

PREDICTIONS = "predictions.jsonl"
EVALUATION = "evaluation.json"


class NothingEvaluatedError(InputError):
    """No text of the file was classified."""

    code = "nothing_evaluated"


class OtherFileError(InputError):
    """The texts of a batch differ from those of the file with which the batch is compared."""

    code = "batch_of_another_file"


class OtherQuestionError(InputError):
    """A batch was made with a different model or other model files, or by the wrong command: one that applies
    the stored calibration where this command does not, or the reverse."""

    code = "batch_of_another_question"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of a model on a labelled file."""

    figures: ClassificationFigures
    num_missing: int
    """Number of texts whose job did not succeed; the figures do not include them."""
    texts_per_second: float
    """Texts per second from the first claim to the last commit, including reading, storing and committing."""

    def as_json(self) -> dict[str, object]:
        """Return the evaluation as JSON, with shares and losses rounded to four decimals."""
        values = asdict(self.figures)
        values["classes"] = {
            name: {key: round(value, 4) for key, value in scores.items()}
            for name, scores in values["classes"].items()
        }
        rounded = {
            name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()
        }
        return {
            **rounded,
            "labels": list(LABELS),
            "num_missing": self.num_missing,
            "documents_per_second": round(self.texts_per_second, 1),
        }


def with_profile(settings: Settings, model: str) -> Settings:
    """Return the settings plus a profile with only this model, so that any classifier can be evaluated.

    Raises ModelNotInstalledError, ModelTaskError, or OtherLabelsError for a classifier with other labels.
    """
    require_labels(settings.models_folder, model, LABELS)
    own = {PROFILE: Profile(models=(model,))}
    # Of equally small profiles, a batch uses the first. The added profile comes first, because only its
    # workers are started.
    profiles = {**own, **settings.profiles, **own}
    return settings.model_copy(update={"profiles": profiles})


def check_texts(source: LabelledInput) -> None:
    """Raise NothingEvaluatedError if no text is usable, before any worker is started.

    Raises FileRejectedError if the whole file is unusable.
    """
    first: Rejected | None = None
    for text in source.texts():
        if not isinstance(text, Rejected):
            return
        first = first or text
    raise NothingEvaluatedError(
        f"{source.path} contains no texts to classify"
        if first is None
        else f"no text of {source.path} can be classified: all lines are refused, the first one for this "
        f"reason: {first}"
    )


def submit_texts(
    database: Engine,
    source: LabelledInput,
    model: str,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
    *,
    calibrate_sha256: str = "",
) -> Submission:
    """Submit the texts of a labelled file as one batch of blocks; the labels are not submitted.

    `calibrate_sha256` is the digest of the model's files; if it is given, the stored calibration is not
    applied. Raises FileRejectedError and the errors of `workers.producer.new_batch`; after an error, nothing
    has been submitted.
    """
    tally = DroppedTally(source.path, on_rejected)
    num_texts = 0

    def texts() -> Iterator[LabelledText]:
        nonlocal num_texts
        for text in source.texts():
            if isinstance(text, Rejected):
                tally(text)
            else:
                num_texts += 1
                yield text

    uncalibrated = {"calibrated": False, "installed_sha256": calibrate_sha256}
    request = BatchRequest(kind=KIND, model=model, settings=uncalibrated if calibrate_sha256 else {})
    batch = new_batch(request, settings, name=source.path.name)
    batch_id, created = batches.accept(database, batch, _jobs(texts()), lambda: tally.num_rejected)
    return Submission(batch_id, created, tally.dropped(num_texts))


def _jobs(texts: Iterator[LabelledText]) -> Iterator[NewJob]:
    number = 0
    while block := list(itertools.islice(texts, BLOCK_TEXTS)):
        payload = {"texts": [{"id": text.id, "text": text.text, "target": text.target} for text in block]}
        yield NewJob(f"block-{number}", payload, "")
        number += 1


def export_evaluation(
    database: Engine, store: Store, summary: Summary, source: LabelledInput, out: Path | None
) -> Evaluation:
    """Compare the model's answers with the file's labels; write them with the figures into `out`, if given.

    Raises NothingEvaluatedError and the errors of `answered`.
    """
    texts = (text for text in source.texts() if not isinstance(text, Rejected))
    labels: list[int] = []
    probabilities: list[tuple[float, float, float]] = []
    num_missing = 0
    with _predictions(out) as predictions:
        for text, prediction in answered(database, store, summary.batch_id, texts, source.path):
            if prediction is None:
                num_missing += 1
                continue
            labels.append(LABELS.index(text.label))
            probabilities.append((prediction.negative, prediction.neutral, prediction.positive))
            predictions.write(prediction, text)
    if not labels:
        cause = ", because all lines were refused: correct the file, the columns or --map"
        if num_missing:
            retry = f"repeat the command with --batch {summary.batch_id}"
            cause = f"{errors_in_words(summary.report)}: {retry}"
        raise NothingEvaluatedError(f"no text of {source.path} was classified{cause}")
    seconds = summary.report.working_seconds
    evaluation = Evaluation(
        classification_figures(np.array(labels, dtype=np.int64), np.array(probabilities), LABELS),
        num_missing,
        len(labels) / seconds if seconds else 0.0,
    )
    if out is not None:
        with export_errors(out, summary.batch_id):
            replace_text(out / EVALUATION, json_text(evaluation.as_json(), indent=2) + "\n")
    return evaluation


def errors_in_words(report: BatchStatusReport) -> str:
    """Return the most frequent errors of a batch's failed jobs in parentheses, or "" if no job failed."""
    errors = ", ".join(f"{code} in {plural(number, 'job', 'jobs')}" for code, number in report.top_errors)
    return f" (errors: {errors})" if errors else ""


def answered(
    database: Engine,
    store: Store,
    batch_id: UUID,
    texts: Iterator[LabelledText],
    file: Path,
    *,
    calibrated: bool = True,
) -> Iterator[tuple[LabelledText, LabelPrediction | None]]:
    """Yield each text of the file with the model's answer, or with None if its job did not succeed.

    Raises OtherFileError, OtherQuestionError, and the errors of `ResultReader.read_batch`.
    """
    if batch_settings(database, batch_id).get("calibrated", True) != calibrated:
        command = "models calibrate" if calibrated else "evaluate sentiment"
        raise OtherQuestionError(
            f"batch {batch_id} was made by `pressroom {command}`, which uses the model differently: continue "
            "it with that command"
        )
    for prediction in _predicted(database, store, batch_id):
        text = next(texts, None)
        while text is not None and text.id != prediction.id:
            yield text, None
            text = next(texts, None)
        if text is None or text_digest(text.text, text.target) != prediction.sha256:
            raise OtherFileError(
                f"the batch has a text {prediction.id!r} that is not in {file}: name the file from which the "
                "batch was made"
            )
        yield text, prediction
    for text in texts:
        yield text, None


def _predicted(database: Engine, store: Store, batch_id: UUID) -> Iterator[LabelPrediction]:
    for result in ResultReader(database, store).read_batch(batch_id):
        for line in result.bodies[0].splitlines():
            yield LabelPrediction.model_validate_json(line)


@contextmanager
def _predictions(out: Path | None) -> Iterator[_Predictions]:
    with ExitStack() as exits:
        yield _Predictions(None if out is None else exits.enter_context(new_file(out / PREDICTIONS)))


class _Predictions:
    """The writer of predictions.jsonl; without an output folder it writes nothing."""

    def __init__(self, lines: TextIO | None) -> None:
        self._lines = lines

    def write(self, prediction: LabelPrediction, text: LabelledText) -> None:
        if self._lines is not None:
            line: dict[str, object] = {
                "line": text.line,
                "target": text.target or None,
                "label": text.label,
                "predicted": prediction.label,
                **{label: getattr(prediction, label) for label in LABELS},
            }
            self._lines.write(json_text(line) + "\n")
