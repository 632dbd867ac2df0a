"""`pressroom models calibrate`: calibrates the probabilities of an installed classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.rejection import Rejected
from kinds.classifier.commands.options import LABELLED_FILE, BatchOfFile, LabelledRun, LabelOptions
from kinds.classifier.labelled_texts import LABELS
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import DeviceOption, Json, MaxDropped
from pressroom.commands.session import devices_of_command, settings_of_command
from pressroom.console import errors_reported, print_json, print_line, say
from workers.models.manifest import ModelNameError, check_name, model_folder

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from kinds.classifier.calibrate import StoredCalibration
    from pressroom.one_machine import OneMachine
    from pressroom.run import RunResult
    from pressroom.summary import Summary
    from storage.store import Store
    from workers.producer import Submission


@with_option_groups
def calibrate(
    name: Annotated[str, typer.Argument(help="An installed classifier.")],
    file: Annotated[Path | None, LABELLED_FILE] = None,
    text: Annotated[str | None, typer.Option(help="Column with the text.")] = None,
    offsets: Annotated[
        bool,
        typer.Option(
            "--offsets",
            help="Also fit an offset for each class, so that the model adopts the class shares of FILE; "
            "this can change answers.",
        ),
    ] = False,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove",
            help="Remove the calibration instead of fitting one (without FILE): the model answers as it "
            "did when installed.",
        ),
    ] = False,
    max_dropped: MaxDropped = None,
    batch: BatchOfFile = None,
    device: DeviceOption = "auto",
    json: Json = False,
    *,
    labels: LabelOptions,
) -> None:
    """Calibrate a classifier's probabilities with labelled texts like those that it will read.

    A temperature is fitted on half of the texts and measured on the other half, with no near-duplicates
    between them; it makes answers more or less certain, but changes none. It is stored with the model and
    replaces an earlier calibration. Workers use it from their next job on; a monitor analyses its documents
    again, as after a change of model.
    """
    try:
        check_name(name)
    except ModelNameError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error
    if remove:
        if file is not None:
            raise typer.BadParameter("--remove cannot be combined with FILE", param_hint="--remove")
        _remove(name, json=json)
        return
    if file is None or text is None:
        raise typer.BadParameter("give a labelled FILE and --text, or --remove", param_hint="FILE")
    run = _CalibrationRun(
        model=name,
        source=labels.input(file, text),
        labels=labels,
        batch=batch,
        device=device,
        offsets=offsets,
        max_dropped=max_dropped,
    )
    with errors_reported():
        result = run.run()
    _print(result.exported, result.summary, name, json=json)


def _remove(name: str, *, json: bool) -> None:
    from workers.models.calibration import remove_calibration

    with errors_reported():
        removed = remove_calibration(model_folder(settings_of_command().models_folder, name))
    if json:
        print_json({"model": name, "removed": removed})
    else:
        print_line(f"{name}: the calibration was removed" if removed else f"{name} has no calibration")


@dataclass(frozen=True, slots=True, kw_only=True)
class _CalibrationRun(LabelledRun):
    """One run of `pressroom models calibrate` with its arguments."""

    offsets: bool
    max_dropped: float | None

    def run(self) -> RunResult[StoredCalibration]:
        """Read the file, classify the texts, fit a calibration and store it."""
        from kinds.classifier.calibrate import Model, read_labelled_file
        from kinds.classifier.evaluate import submit_texts, with_profile
        from pressroom.run import run_batch

        settings = with_profile(settings_of_command(), self.model)
        devices_of_command(self.device)  # fail before the file is read
        model = Model.open(settings.models_folder, self.model)
        labelled = read_labelled_file(self.source, self.max_dropped)

        def submit(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
            return submit_texts(
                machine.database,
                self.source,
                self.model,
                settings,
                on_rejected,
                calibrate_sha256=model.installed_sha256,
            )

        def keep(database: Engine, store: Store, summary: Summary, _: Path) -> StoredCalibration:
            return model.calibrate(database, store, summary, labelled, with_offsets=self.offsets)

        command = ("models", "calibrate", self.model)
        request = self.request(submit, command, ["--offsets"] if self.offsets else [])
        return run_batch(request, settings, keep)


def _print(calibrated: StoredCalibration, summary: Summary, name: str, *, json: bool) -> None:
    """Print the calibration and its figures on stdout, as a table or as JSON."""
    from workers.models.files import CALIBRATION

    content = calibrated.calibration.content
    if json:
        print_json(
            {
                **summary.as_json(),
                "model": name,
                "calibration_sha256": calibrated.calibration.sha256,
                "calibration": content.model_dump(mode="json"),
                "replaced": calibrated.replaced,
            }
        )
        return
    print_line(
        f"{name}: temperature {content.temperature}{_offsets(content.offsets)}, fitted on "
        f"{content.num_fitted} texts of {content.file.name}"
    )
    print_line(
        f"measured on {content.num_held_out} other texts, none of which is a near-duplicate of the "
        "fitted ones:"
    )
    print_line(f"{'':18} {'uncalibrated':>12} {'calibrated':>12}")
    for title in ("calibration_error", "log_loss", "accuracy", "macro_f1"):
        before, after = getattr(content.uncalibrated, title), getattr(content.calibrated, title)
        print_line(f"{title.replace('_', ' '):18} {before:12.4f} {after:12.4f}")
    if content.num_changed:
        print_line(
            f"the offsets change the answers for {content.num_changed} of the {content.num_held_out} texts"
        )
    replaced = f", replacing the previous one ({calibrated.replaced})" if calibrated.replaced else ""
    say(f"Stored in {calibrated.folder / CALIBRATION}{replaced}; workers use it from their next job on.")


def _offsets(offsets: Mapping[str, float]) -> str:
    if not any(offsets.values()):
        return ""
    return ", offsets " + " ".join(f"{label} {offsets[label]:+.2f}" for label in LABELS)
