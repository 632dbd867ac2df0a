"""`pressroom evaluate sentiment`: measures a model on a labelled file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.rejection import Rejected
from jobs.shown import plural
from kinds.classifier.commands.options import LABELLED_FILE, BatchOfFile, LabelledRun, LabelOptions
from kinds.classifier.labelled_texts import LABELS
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import DeviceOption, Json, MaxDropped, is_dropped_too_much, option_words
from pressroom.commands.session import settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, print_line, say
from workers.settings import DEFAULT_CLASSIFIER

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from kinds.classifier.evaluate import Evaluation
    from pressroom.one_machine import OneMachine
    from pressroom.run import RunResult
    from pressroom.summary import Summary
    from storage.store import Store
    from workers.producer import Submission


@with_option_groups
def evaluate_sentiment(
    file: Annotated[Path, LABELLED_FILE],
    text: Annotated[str, typer.Option(help="Column with the text.")],
    model: Annotated[str, typer.Option(help="An installed classifier.")] = DEFAULT_CLASSIFIER,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", file_okay=False, help="Folder for figures, predictions and refused lines."
        ),
    ] = None,
    max_dropped: MaxDropped = None,
    batch: BatchOfFile = None,
    device: DeviceOption = "auto",
    json: Json = False,
    *,
    labels: LabelOptions,
) -> None:
    """Classify every text of a labelled file and print accuracy, F1, confusion, calibration and speed."""
    from pressroom.run import REJECTED

    source = labels.input(file, text)
    run = _EvaluationRun(source=source, labels=labels, model=model, out=out, batch=batch, device=device)
    with errors_reported():
        result = run.run()
    counts = result.summary.report.counts
    if json:
        print_json({**result.summary.as_json(), "evaluation": result.exported.as_json()})
    else:
        _print(result.exported, model, file)
    if counts.rejected and out is not None:
        say(f"The refused lines are in {out / REJECTED}.")
    is_complete = replace(counts, rejected=0).complete if result.dropped else counts.complete
    if is_dropped_too_much(result.dropped, max_dropped) or not is_complete:
        raise typer.Exit(EXIT_FAILURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _EvaluationRun(LabelledRun):
    """One run of `pressroom evaluate sentiment` with its arguments."""

    out: Path | None

    def run(self) -> RunResult[Evaluation]:
        """Classify the texts, and write the results into the folder `out` if there is one."""
        from kinds.classifier.evaluate import check_texts, export_evaluation, submit_texts, with_profile
        from pressroom.run import run_batch

        settings = with_profile(settings_of_command(), self.model)
        check_texts(self.source)

        def submit(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
            return submit_texts(machine.database, self.source, self.model, settings, on_rejected)

        def export(database: Engine, store: Store, summary: Summary, _: Path) -> Evaluation:
            return export_evaluation(database, store, summary, self.source, self.out)

        options = option_words({"model": self.model, "out": None if self.out is None else str(self.out)})
        request = self.request(submit, ("evaluate", "sentiment"), options, out=self.out)
        return run_batch(request, settings, export)


def _print(evaluation: Evaluation, model: str, file: Path) -> None:
    """Print the figures of the evaluation as tables on stdout."""
    figures = evaluation.figures
    print_line(f"{model} on {file.name}: {figures.num_examples} texts")
    print_line(f"accuracy  {figures.accuracy:.3f}   macro-F1  {figures.macro_f1:.3f}")
    print_line(
        f"calibration error  {figures.calibration_error:.3f}   log loss  {figures.log_loss:.3f}   "
        f"{evaluation.texts_per_second:.0f} documents a second"
    )
    if evaluation.num_missing:
        missing = plural(evaluation.num_missing, "text has", "texts have")
        print_line(f"{missing} no answer, because the jobs that classify them did not succeed")
    print_line("")
    print_line(
        f"{'':10} {'precision':>9} {'recall':>7} {'F1':>6}    predicted: "
        + " ".join(f"{x:>9}" for x in LABELS)
    )
    for name, row in zip(LABELS, figures.confusion, strict=True):
        scores = figures.classes[name]
        cells = " ".join(f"{number:9}" for number in row)
        print_line(
            f"{name:10} {scores.precision:9.3f} {scores.recall:7.3f} {scores.f1:6.3f}               {cells}"
        )
