"""Installed models: each is a folder with a manifest, by which its files are verified before loading."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from jobs.errors import ConfigurationError, InputError
from jobs.inference import ModelTaskError, check_labels
from jobs.provenance import payload_digest
from jobs.validation import describe_first
from workers.engine import ModelUnsupportedError
from workers.models.classifier import CLASSIFIER, read_classifier_settings
from workers.models.files import (
    CALIBRATION,
    FILE_NAME,
    MANIFEST,
    TOKENIZER,
    WEIGHT_SUFFIX,
    MalformedFileError,
    Task,
    check_formats,
    check_weights,
)
from workers.models.reading import WeightsDigestError as WeightsDigestError
from workers.models.reading import open_regular, read_digested
from workers.models.sources import HubSource, RevisionNotPinnedError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

UNLIMITED_TOKENS = 2**31 - 1
"""Context length of a model without a limit, such as a recurrent one; only the engine's limit applies to it.
"""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=rf"^{FILE_NAME}$")]


class ModelNameError(InputError):
    """A model's name is not valid; it must be one that a folder, a queue and a record can have, too."""

    code = "model_name_invalid"


class ModelNotInstalledError(ConfigurationError):
    """No model of this name is in the models folder."""

    code = "model_not_installed"


class ModelOutdatedError(ConfigurationError):
    """A model was installed by an older version, which did not load models to check them."""

    code = "model_outdated"


class ModelFile(BaseModel):
    """One file of an installed model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: FileName
    bytes: int = Field(ge=0)
    sha256: Sha256


class Trial(BaseModel):
    """The results of loading a model for the first time; they are part of its manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engines: dict[str, str]
    """For each engine of this installation, the reason why it cannot run the model; empty if it can."""
    versions: dict[str, str]
    """Versions of the libraries that were used."""

    def reason_against(self, engine: str) -> str:
        """Return the reason why the engine cannot run the model; empty if it can or was not tried."""
        return self.engines.get(engine, "")


class Manifest(BaseModel):
    """The description and origin of an installed model; `manifest.json` in its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    name: str
    source: str
    revision: str
    """Version of the package, commit of the hub's repository, or `local`."""
    licence: str | None
    """SPDX id of the licence, if known."""
    architecture: str
    """Name of the model's class in transformers, such as LlamaForCausalLM."""
    task: Task = "generate"
    files: tuple[ModelFile, ...]
    weights_sha256: Sha256
    """Digest over the lines "SHA256  PATH" of the weight files, ordered by path, as sha256sum prints them."""
    tokenizer_sha256: Sha256
    chat_template_sha256: Sha256 | Literal[""]
    """Digest of the chat template; empty for a model without one."""
    num_parameters: int = Field(ge=0, le=2**50)
    max_context_tokens: int = Field(ge=1, le=UNLIMITED_TOKENS)
    created_at: AwareDatetime
    trial: Trial | None = None
    """Results of loading the model once; None until then, and for models that older versions installed."""

    @property
    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by name, with which loaders compare what they read."""
        return {file.path: file.sha256 for file in self.files}

    @property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def classifier_sha256(self) -> str | None:
        """Return the digest of classifier.json; None if the model is not a classifier."""
        return next((file.sha256 for file in self.files if file.path == CLASSIFIER), None)


def model_folder(models_folder: Path, name: str) -> Path:
    """Return the folder of an installed model. Raises ModelNameError or ModelNotInstalledError."""
    folder = models_folder / check_name(name)
    if not (folder / MANIFEST).is_file():
        raise _not_installed(folder)
    return folder


def check_name(name: str) -> str:
    """Return the name if it is valid for a model; otherwise raise ModelNameError.

    >>> check_name("smollm2-135m-instruct")
    'smollm2-135m-instruct'
    """
    if not _NAME.fullmatch(name):
        raise ModelNameError(
            f"the model name {name[:80]!r} cannot be used: use at most 64 lower-case letters, digits, . - "
            "and _, beginning with a letter or digit"
        )
    return name


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an installed model without checking its files; this takes a millisecond.

    Raises ModelNotInstalledError, ModelOutdatedError, MalformedFileError or RevisionNotPinnedError.
    """
    manifest = read_untried_manifest(folder)
    if manifest.trial is None:
        raise ModelOutdatedError(
            f"{folder.name} in {folder.parent} was installed by an older version, which did not load it "
            f"to check that it is complete: run `pressroom models add {folder.name}`, which loads the "
            "existing files once"
        )
    return manifest


def read_untried_manifest(folder: Path) -> Manifest:
    """Read a manifest as read_manifest does, but accept a model that has not been loaded yet."""
    path = folder / MANIFEST
    if not path.is_file():
        raise _not_installed(folder)
    try:
        manifest = Manifest.model_validate_json(read_digested(path)[0])
    except ValidationError as error:
        reason = describe_first(error)
        raise MalformedFileError(f"{path}: {reason}; delete {folder} and install the model again") from error
    if manifest.source.startswith("hub:"):
        repository, _, revision = manifest.source.removeprefix("hub:").rpartition("@")
        if HubSource(repository, revision).revision != manifest.revision:
            raise RevisionNotPinnedError(
                f"{path}: the revision {manifest.revision} does not match the source {manifest.source}"
            )
    return manifest


def require_labels(models_folder: Path, model: str, labels: tuple[str, ...]) -> None:
    """Check that an installed classifier has exactly these labels before a batch uses it.

    Raises ModelNotInstalledError, ModelTaskError, OtherLabelsError, or MalformedFileError.
    """
    task = read_manifest(folder := model_folder(models_folder, model)).task
    if task != "classify":
        raise ModelTaskError(
            f"the model {model!r} can {task}, but a classifier is needed: name another model"
        )
    check_labels(read_classifier_settings(folder).names, labels, model=model)


def model_digest(models_folder: Path, name: str) -> str:
    """Return the digest of a model's files; for a model that is not installed here, return its name.

    The manifest is not included. A calibration is, because it changes the model's answers.
    """
    try:
        manifest = read_manifest(model_folder(models_folder, name))
    except ModelNotInstalledError:
        return name
    digests = manifest.digests
    with suppress(FileNotFoundError):
        digests[CALIBRATION] = read_digested(models_folder / name / CALIBRATION)[1]
    return payload_digest(digests)


def installed_digest(manifest: Manifest) -> str:
    """Return the digest of all files of the installation, which does not include a calibration."""
    return payload_digest(manifest.digests)


def verify_model(folder: Path) -> Manifest:
    """Read every byte of an installed model and compare it with its manifest.

    A calibration is not part of the installation: `workers.models.calibration` reads and checks it. Raises
    ModelNotInstalledError, ModelFormatError, RemoteCodeError, RevisionNotPinnedError, WeightsDigestError or
    MalformedFileError. The check takes about 0.5 s per gigabyte from the page cache.
    """
    manifest = check_installed(folder)
    for file in manifest.files:
        check_file(folder / file.path, file, folder)
    check_weights(folder)
    return manifest


def check_installed(folder: Path) -> Manifest:
    """Check an installed model without reading its weights, before a worker loads it.

    The folder must contain the files of the manifest and no others, and none that could run code. The digest
    of a file is checked when it is loaded. Raises the same errors as verify_model.
    """
    manifest = read_manifest(folder)
    check_formats(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST, CALIBRATION}
    if odd := sorted(present ^ manifest.digests.keys()):
        raise WeightsDigestError(
            f"{folder}: these files are missing or not in the manifest: {', '.join(odd)}; "
            f"{_reinstall(folder)}"
        )
    tokenizer = manifest.digests.get(TOKENIZER)
    if (weights_digest(manifest.files), tokenizer) != (manifest.weights_sha256, manifest.tokenizer_sha256):
        raise WeightsDigestError(
            f"{folder / MANIFEST}: weights_sha256 or tokenizer_sha256 does not match its files; "
            f"{_reinstall(folder)}"
        )
    return manifest


def list_models(models_folder: Path) -> tuple[Manifest, ...]:
    """Return the manifests of all installed models by name, including outdated ones.

    Leftovers of interrupted installations are not included.
    """
    paths = sorted(models_folder.glob(f"*/{MANIFEST}")) if models_folder.is_dir() else []
    return tuple(read_untried_manifest(path.parent) for path in paths if not path.parent.name.startswith("."))


def check_file(path: Path, expected: ModelFile, folder: Path) -> None:
    """Check a file of the model in `folder` by reading it completely.

    Raises WeightsDigestError if it has changed since the installation.
    """
    actual = file_entry(path)
    if actual != expected:
        raise WeightsDigestError(
            f"{folder / expected.path} has {actual.bytes} bytes and sha256 {actual.sha256}, but it had "
            f"{expected.bytes} bytes and {expected.sha256} when it was installed; {_reinstall(folder)}"
        )


def file_entry(path: Path) -> ModelFile:
    """Return the size and digest of a file, in the form of a manifest entry."""
    with open(open_regular(path), "rb", buffering=0) as file:  # file_digest has its own large buffer
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ModelFile(path=path.name, bytes=os.fstat(file.fileno()).st_size, sha256=digest)


def weights_digest(files: tuple[ModelFile, ...]) -> str:
    """Return one digest over the weight files, in the order of their names."""
    weights = sorted(
        (file for file in files if file.path.endswith(WEIGHT_SUFFIX)), key=lambda file: file.path
    )
    return hashlib.sha256("".join(f"{file.sha256}  {file.path}\n" for file in weights).encode()).hexdigest()


def check_engine(manifest: Manifest, engine: str) -> None:
    """Raise ModelUnsupportedError if the model's trial showed that the engine cannot run it."""
    if manifest.trial is not None and (reason := manifest.trial.reason_against(engine)):
        raise ModelUnsupportedError(manifest.architecture, engine, reason)


def _not_installed(folder: Path) -> ModelNotInstalledError:
    return ModelNotInstalledError(
        f"the model {folder.name} is not installed in {folder.parent}: run `pressroom models add "
        f"{folder.name}`"
    )


def _reinstall(folder: Path) -> str:
    return f"delete {folder} and run `pressroom models add {folder.name}`"
