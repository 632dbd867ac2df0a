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
from workers.engine import Encoder, EncoderTask, Engine, EngineOptions, Tokenizer
from workers.models.calibration import Calibration, read_calibration
from workers.models.manifest import Manifest, WeightsDigestError, check_engine, check_installed, model_folder
from workers.thinking import TemplateSettings, Thinking, ThoughtPlan
from workers.tokenizer import RowTokenizer, load_row_tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

DEFAULT_ENCODER = "workers.engines.transformers_encoder"


class OpenEngine(Protocol):
    """The type of `open_engine` in workers.engines.ENGINE."""

    def __call__(self, model_folder: Path, tokenizer: Tokenizer, options: EngineOptions) -> Engine: ...


class PlanThoughts(Protocol):
    """The type of `ChatTokenizer.plan_thoughts`."""

    def __call__(self, prompt_ids: tuple[int, ...], max_tokens: int) -> ThoughtPlan | None: ...


def no_thoughts(prompt_ids: tuple[int, ...], max_tokens: int) -> None:
    """Return None, for a model that is not known to think."""


class OpenEncoder(Protocol):
    """The type of `open_encoder` in workers.engines.ENGINE_encoder or, without it, in DEFAULT_ENCODER."""

    def __call__(
        self, model_folder: Path, tokenizer: RowTokenizer, options: EngineOptions, task: EncoderTask
    ) -> Encoder: ...


class ModelNotWarmError(PermanentError):
    """A job requests a model that this worker's profile does not have."""

    code = "model_not_warm"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A language model that is loaded and warmed up."""

    manifest: Manifest
    tokenizer: Tokenizer
    engine: Engine
    plan_thoughts: PlanThoughts = no_thoughts
    """Returns the plan by which the engine separates this model's thoughts from its answers; None if the
    model is not known to think."""
    thinking: Thinking = field(default_factory=Thinking)
    template_settings: TemplateSettings = ()
    """The variables about thinking that the model's chat template receives."""

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
class EncoderModel:
    """A classification or embedding model that is loaded and warmed up."""

    manifest: Manifest
    folder: Path
    tokenizer: RowTokenizer
    engine: Encoder
    classifier_sha256: str | None
    """SHA-256 of the classifier.json that defines the meaning of the model's outputs; None if the model has
    none."""

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


class ModelPool:
    """The loaded models of a worker process. Any thread may look up a model."""

    def __init__(self, models: Iterable[LanguageModel | EncoderModel]) -> None:
        self._models = {model.manifest.name: model for model in models}

    def generator(self, name: str) -> LanguageModel:
        """Return the loaded language model of this name. Raises ModelNotWarmError or ModelTaskError."""
        model = self._get(name)
        if not isinstance(model, LanguageModel):
            raise _task_error(name, model.engine.info.task, "generate")
        return model

    def encoder(self, name: str, task: EncoderTask) -> EncoderModel:
        """Return the loaded model of this name and task. Raises ModelNotWarmError or ModelTaskError."""
        model = self._get(name)
        if not isinstance(model, EncoderModel):
            raise _task_error(name, "generate", task)
        if model.engine.info.task != task:
            raise _task_error(name, model.engine.info.task, task)
        return model

    def _get(self, name: str) -> LanguageModel | EncoderModel:
        if name not in self._models:
            raise ModelNotWarmError(
                f"the job needs the model {name!r}, and this worker has loaded "
                f"{', '.join(self._models) or 'no model'}: start a worker with a profile that includes it"
            )
        return self._models[name]

    def all(self) -> list[LanguageModel | EncoderModel]:
        """Return every loaded model."""
        return list(self._models.values())

    @property
    def has_encoders(self) -> bool:
        """Whether any loaded model classifies or embeds."""
        return any(isinstance(each, EncoderModel) for each in self.all())

    @property
    def num_slots(self) -> int:
        """Number of requests that all language models together decode at a time."""
        return sum(each.engine.info.num_slots for each in self.all() if isinstance(each, LanguageModel))

    def close(self) -> None:
        """Stop the engines."""
        for model in self._models.values():
            model.engine.close()


def load_models(
    models_folder: Path, names: Iterable[str], *, engine: str, options: EngineOptions
) -> ModelPool:
    """Load and warm up the models one after the other.

    Every file is compared with the manifest as it is read. Raises what check_installed and the engine raise.
    """
    models: list[LanguageModel | EncoderModel] = []
    try:
        for name in names:
            begun_at = time.monotonic()
            folder = model_folder(models_folder, name)
            models.append(_open(check_installed(folder), folder, engine, options))
            models[-1].engine.warm()
            logger.info(
                "A model was warmed up.",
                extra={"model": name, "seconds": round(time.monotonic() - begun_at, 1)},
            )
    except BaseException:
        ModelPool(models).close()
        raise
    return ModelPool(models)


def _open(
    manifest: Manifest, folder: Path, engine: str, options: EngineOptions
) -> LanguageModel | EncoderModel:
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
) -> LanguageModel | EncoderModel:
    """Open the model with the engine.

    The engine's module is imported here, in the process that runs it, and nowhere else.
    """
    options = replace(options, digests=manifest.digests)
    if manifest.task == "generate":
        check_engine(manifest, engine)
        tokenizer = load_tokenizer(
            folder, manifest.digests, is_thinking_requested=options.thinking.is_requested
        )
        if tokenizer.chat_template_sha256 != manifest.chat_template_sha256:
            raise WeightsDigestError(
                f"{folder}: the chat template is not the one that the manifest names; delete the folder and "
                f"run `pressroom models add {folder.name}`"
            )
        open_engine: OpenEngine = import_module(f"workers.engines.{engine}").open_engine
        return LanguageModel(
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
    return EncoderModel(manifest, folder, rows, encoder, manifest.classifier_sha256)


def _encoder_module(engine: str) -> str:
    own = f"workers.engines.{engine}_encoder"
    if find_spec(own) is not None:
        return own
    if find_spec(f"workers.engines.{engine}") is None:
        raise ModuleNotFoundError(f"no module workers/engines/{engine}.py")
    return DEFAULT_ENCODER


def _task_error(model: str, task: str, required: str) -> ModelTaskError:
    return ModelTaskError(
        f"the model {model!r} can {task}, but the job needs a model that can {required}: name another model"
    )
