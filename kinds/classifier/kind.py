"""The classifier kind, which trains a sentiment model on a user's labelled texts."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from jobs.kind import Artifact, Context, Kind, Parent, Port, Result, Stage
from kinds.classifier.training_spec import Training, TrainingSpec

_MEDIA_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown",
    ".safetensors": "application/octet-stream",
}


class ClassifierSettings(BaseModel):
    """The settings of the classifier kind: none, because the payload defines the model completely."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassifierKind(Kind[TrainingSpec]):
    """Trains one model per job, and returns it with its figures on held-out texts and its model card."""

    name = "classifier"
    version = "1"
    intake = None
    stages = (Stage("train"),)
    ports = (Port(Training, "kinds.classifier.training.port:open_training"),)
    payload_type = TrainingSpec
    settings_type = ClassifierSettings

    def models(
        self,
        model: str,  # noqa: ARG002
        settings: BaseModel,  # noqa: ARG002
        stage: str,  # noqa: ARG002 - arguments of the base class
    ) -> tuple[str, ...]:
        """Return no models, because the training run reads the base model itself and needs no engine."""
        return ()

    def run(self, payload: TrainingSpec, context: Context) -> Result:
        """Train the model, from the job's last checkpoint if any; the first artifact is the model card."""
        trained = context.port(Training).train_classifier(payload)
        recipe = json.loads(trained.files["recipe.json"])
        parents = [Parent("training_data", file.name, file.sha256) for file in payload.files]
        parents.append(Parent("base_model", payload.base, recipe["base"]["weights_sha256"]))
        return Result(
            artifacts=tuple(
                Artifact(name=name, media_type=_media_type(name), body=body)
                for name, body in trained.files.items()
            ),
            metrics=trained.metrics,
            parents=tuple(parents),
        )


def _media_type(name: str) -> str:
    return _MEDIA_TYPES["." + name.rpartition(".")[2]]
