"""Which models are warm in this process: verified against their manifest, loaded once, kept."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from jobs.errors import ConfigurationError, PermanentError
from jobs.provenance import EngineFacts, ModelFacts
from workers.engine import Engine, EngineOptions, Tokenizer
from workers.models.manifest import Manifest, model_folder, verify_model
from workers.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)


class OpenEngine(Protocol):
    """What every module of workers.engines offers."""

    def __call__(self, model_folder: Path, tokenizer: Tokenizer, options: EngineOptions) -> Engine: ...


class ModelNotWarmError(PermanentError):
    """A job asks for a model that this worker's profile does not have."""

    code = "model_not_warm"


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is ready."""

    manifest: Manifest
    tokenizer: Tokenizer
    engine: Engine

    def model_facts(self) -> ModelFacts:
        """What provenance says of the model."""
        return ModelFacts(
            name=self.manifest.name,
            source=self.manifest.source,
            revision=self.manifest.revision,
            weights_sha256=self.manifest.weights_sha256,
            tokenizer_sha256=self.manifest.tokenizer_sha256,
            chat_template_sha256=self.manifest.chat_template_sha256,
        )

    def engine_facts(self) -> EngineFacts:
        """What provenance says of the engine."""
        info = self.engine.info
        return EngineFacts(
            name=info.name,
            versions=info.versions,
            dtype=info.dtype,
            device=info.device,
            attention=info.attention,
            num_slots=info.num_slots,
        )


class Residency:
    """The warm models of a worker process. Any thread may ask for one once they are loaded."""

    def __init__(self, residents: Iterable[Resident]) -> None:
        self._residents = {resident.manifest.name: resident for resident in residents}

    def get(self, model: str) -> Resident:
        """The warm model of this name. Raises ModelNotWarmError."""
        if model not in self._residents:
            raise ModelNotWarmError(
                f"the job asks for {model!r}, warm here: {', '.join(self._residents) or 'no model'}; "
                "start a worker of a profile that has it"
            )
        return self._residents[model]

    def all(self) -> list[Resident]:
        """Every warm model."""
        return list(self._residents.values())

    def close(self) -> None:
        """Stop the engines."""
        for resident in self._residents.values():
            resident.engine.close()


def load(models_folder: Path, names: Iterable[str], *, engine: str, options: EngineOptions) -> Residency:
    """Verify, load and warm the models one after the other. Raises what verify_model and the engine raise."""
    open_engine = _engine_factory(engine)
    residents = []
    for name in names:
        begun_at = time.monotonic()
        folder = model_folder(models_folder, name)
        manifest = verify_model(folder)
        tokenizer = load_tokenizer(folder)
        opened = open_engine(folder, tokenizer, options)
        opened.warm()
        residents.append(Resident(manifest, tokenizer, opened))
        logger.info(
            "A model is warm.", extra={"model": name, "seconds": round(time.monotonic() - begun_at, 1)}
        )
    return Residency(residents)


def _engine_factory(name: str) -> OpenEngine:
    """The engine's module is imported here, where it runs, and nowhere else."""
    try:
        module = importlib.import_module(f"workers.engines.{name}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the engine {name!r} cannot be loaded ({error}): install the extra `pressroom[engine]`, "
            "or correct PRESSROOM_ENGINE",
            code="engine_not_installed",
        ) from error
    return cast(OpenEngine, module.open_engine)
