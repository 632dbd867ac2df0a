"""The models loaded in this process: each is verified against its manifest, loaded once, and kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from jobs.errors import ConfigurationError, PermanentError
from jobs.inference import ModelTaskError
from jobs.provenance import EncoderFacts, EngineFacts, ModelFacts
from workers.encoder import Encoder, EncoderTask
from workers.encoder_tokenizer import RowTokenizer, load_row_tokenizer
from workers.engine import Engine, EngineOptions, Tokenizer
from workers.models.calibration import Calibration, read_calibration
from workers.models.manifest import Manifest, WeightsDigestError, check_engine, check_installed, model_folder
from workers.thinking import TemplateSettings, Thinking, ThoughtPlan
from workers.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

DEFAULT_ENCODER = "workers.engines.transformers_encoder"


class OpenEngine(Protocol):
    """The function that every module of workers.engines provides."""

    def __call__(self, model_folder: Path, tokenizer: Tokenizer, options: EngineOptions) -> Engine: ...


class PlanThoughts(Protocol):
    """The type of `ChatTokenizer.plan_thoughts`."""

    def __call__(self, prompt_ids: tuple[int, ...], max_tokens: int) -> ThoughtPlan | None: ...


def no_thoughts(prompt_ids: tuple[int, ...], max_tokens: int) -> None:
    """Return None, for a model that is not known to think."""


class OpenEncoder(Protocol):
    """The type of `open_encoder` in workers.engines.ENGINE_encoder, or else in DEFAULT_ENCODER."""

    def __call__(
        self, model_folder: Path, tokenizer: RowTokenizer, options: EngineOptions, task: EncoderTask
    ) -> Encoder: ...


class ModelNotWarmError(PermanentError):
    """A job requests a model that this worker's profile does not have."""

    code = "model_not_warm"


@dataclass(frozen=True, slots=True)
class Resident:
    """A language model that is loaded and warmed up."""

    manifest: Manifest
    tokenizer: Tokenizer
    engine: Engine
    plan_thoughts: PlanThoughts = no_thoughts
    """Returns how the engine can tell this model's thoughts from its answers."""
    thinking: Thinking = field(default_factory=Thinking)
    template_settings: TemplateSettings = ()
    """The settings about thinking that its chat template receives."""

    def model_facts(self) -> ModelFacts:
        """Return what provenance records about the model."""
        return _model_facts(self.manifest)

    def engine_facts(self) -> EngineFacts:
        """Return what provenance records about the engine."""
        info = self.engine.info
        return EngineFacts(
            name=info.name,
            versions=info.versions,
            dtype=info.dtype,
            device=info.device,
            attention=info.attention,
            num_slots=info.num_slots,
        )


@dataclass(frozen=True, slots=True)
class ResidentEncoder:
    """A model for classes or embeddings that is loaded and warmed up."""

    manifest: Manifest
    folder: Path
    tokenizer: RowTokenizer
    engine: Encoder
    classifier_sha256: str | None
    """SHA-256 of the classifier.json that defines the meaning of its outputs; None if it has none."""

    def model_facts(self) -> ModelFacts:
        """Return what provenance records about the model."""
        return _model_facts(self.manifest)

    def engine_facts(self) -> EncoderFacts:
        """Return what provenance records about the engine."""
        info = self.engine.info
        return EncoderFacts(
            name=info.name,
            versions=info.versions,
            dtype=info.dtype,
            device=info.device,
            attention=info.attention,
            max_batch_tokens=info.max_batch_tokens,
            max_tokens=info.max_tokens,
            classifier_sha256=self.classifier_sha256,
        )

    def read_calibration(self) -> Calibration | None:
        """Return the current calibration; a new one applies to the next job, without a restart."""
        return read_calibration(self.folder, self.manifest)


def _model_facts(manifest: Manifest) -> ModelFacts:
    return ModelFacts(
        name=manifest.name,
        source=manifest.source,
        revision=manifest.revision,
        weights_sha256=manifest.weights_sha256,
        tokenizer_sha256=manifest.tokenizer_sha256,
        chat_template_sha256=manifest.chat_template_sha256,
    )


class Residency:
    """The loaded models of a worker process. Any thread may look one up once they are loaded."""

    def __init__(self, residents: Iterable[Resident | ResidentEncoder]) -> None:
        self._residents = {resident.manifest.name: resident for resident in residents}

    def generator(self, model: str) -> Resident:
        """Return the loaded language model of this name. Raises ModelNotWarmError or ModelTaskError."""
        resident = self._get(model)
        if not isinstance(resident, Resident):
            raise _task_error(model, resident.engine.info.task, "generate")
        return resident

    def encoder(self, model: str, task: EncoderTask) -> ResidentEncoder:
        """Return the loaded model of this name and task. Raises ModelNotWarmError or ModelTaskError."""
        resident = self._get(model)
        if not isinstance(resident, ResidentEncoder):
            raise _task_error(model, "generate", task)
        if resident.engine.info.task != task:
            raise _task_error(model, resident.engine.info.task, task)
        return resident

    def _get(self, model: str) -> Resident | ResidentEncoder:
        if model not in self._residents:
            raise ModelNotWarmError(
                f"the job asks for {model!r}, warm here: {', '.join(self._residents) or 'no model'}; "
                "start a worker of a profile that has it"
            )
        return self._residents[model]

    def all(self) -> list[Resident | ResidentEncoder]:
        """Return every loaded model."""
        return list(self._residents.values())

    @property
    def has_encoders(self) -> bool:
        """Whether any loaded model classifies or embeds."""
        return any(isinstance(each, ResidentEncoder) for each in self.all())

    @property
    def num_slots(self) -> int:
        """Number of requests that all language models together decode at a time."""
        return sum(each.engine.info.num_slots for each in self.all() if isinstance(each, Resident))

    def close(self) -> None:
        """Stop the engines."""
        for resident in self._residents.values():
            resident.engine.close()


def load(models_folder: Path, names: Iterable[str], *, engine: str, options: EngineOptions) -> Residency:
    """Load and warm up the models one after the other, each file verified as it is read.

    Every file is compared with the manifest. Raises what check_installed and the engine raise.
    """
    residents: list[Resident | ResidentEncoder] = []
    try:
        for name in names:
            begun_at = time.monotonic()
            folder = model_folder(models_folder, name)
            residents.append(_open(check_installed(folder), folder, engine, options))
            residents[-1].engine.warm()
            logger.info(
                "A model is warm.", extra={"model": name, "seconds": round(time.monotonic() - begun_at, 1)}
            )
    except BaseException:
        Residency(residents).close()
        raise
    return Residency(residents)


def _open(
    manifest: Manifest, folder: Path, engine: str, options: EngineOptions
) -> Resident | ResidentEncoder:
    try:
        return _open_with(engine, manifest, folder, options)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the engine {engine!r} cannot be loaded ({error}): install the extra `pressroom[engine]`, "
            "or correct PRESSROOM_ENGINE",
            code="engine_not_installed",
        ) from error


def _open_with(
    engine: str, manifest: Manifest, folder: Path, options: EngineOptions
) -> Resident | ResidentEncoder:
    """Open the model with the engine.

    The engine's module is imported here, in the process that runs it, and nowhere else.
    """
    options = replace(options, digests=manifest.digests)
    if manifest.task == "generate":
        check_engine(manifest, engine)
        tokenizer = load_tokenizer(folder, manifest.digests, is_thinking_asked=options.thinking.is_asked)
        if tokenizer.chat_template_sha256 != manifest.chat_template_sha256:
            raise WeightsDigestError(
                f"{folder}: the chat template is not the one that the manifest names; delete the folder and "
                f"run `pressroom models add {folder.name}`"
            )
        open_engine: OpenEngine = import_module(f"workers.engines.{engine}").open_engine
        return Resident(
            manifest,
            tokenizer,
            open_engine(folder, tokenizer, options),
            tokenizer.plan_thoughts,
            options.thinking,
            tokenizer.template_settings,
        )
    rows = load_row_tokenizer(folder, manifest.digests)
    open_encoder: OpenEncoder = import_module(_encoder_module(engine)).open_encoder
    read_calibration(folder, manifest)  # an unusable calibration is reported now, not by each job
    encoder = open_encoder(folder, rows, options, manifest.task)
    return ResidentEncoder(manifest, folder, rows, encoder, manifest.classifier_sha256)


def _encoder_module(engine: str) -> str:
    own = f"workers.engines.{engine}_encoder"
    if find_spec(own) is not None:
        return own
    if find_spec(f"workers.engines.{engine}") is None:
        raise ModuleNotFoundError(f"no module workers/engines/{engine}.py")
    return DEFAULT_ENCODER


def _task_error(model: str, task: str, asked: str) -> ModelTaskError:
    return ModelTaskError(
        f"the model {model!r} is one to {task}, the job asks it to {asked}: name another model"
    )
