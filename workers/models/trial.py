"""A model is loaded once when it is added: in a child process, as a worker would load it, with a few tokens.

A model that cannot be loaded, lacks a tensor or produces nonsense is refused by `models add`, instead of
making a worker restart again and again. The results of the trial are stored in the manifest.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import ConfigurationError
from workers.models.child import run_child
from workers.models.files import ModelIncompleteError, ModelUnloadableError

CHILD = "workers.engines.trial"

ENGINE_MISSING = "engine_not_installed"


class Trial(BaseModel):
    """The findings when the model was first loaded; part of its manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engines: dict[str, str]
    """For each engine of this installation, why it cannot run the model; empty if it can."""
    versions: dict[str, str]
    """Versions of the libraries that were used."""

    def reason_against(self, engine: str) -> str:
        """Return why the engine cannot run the model; empty if it can, or was not tried."""
        return self.engines.get(engine, "")


class TrialAnswer(BaseModel):
    """The last line of the child's stdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: Trial | None = None
    code: str = ""
    message: str = ""


def try_model(folder: Path, *, num_parameters: int) -> Trial:
    """Load the model in the folder, whose manifest already exists, and run it.

    Raises ModelIncompleteError, or ConfigurationError with the code of the fault (`model_unloadable`,
    `model_labels_unknown`, `engine_not_installed` and whatever else loading raises).
    """
    ended = run_child(CHILD, str(folder), model_bytes=4 * num_parameters)
    try:
        answer = TrialAnswer.model_validate_json(ended.stdout.strip().rpartition("\n")[2])
    except ValidationError as error:
        raise ModelUnloadableError(
            f"{folder.name} cannot be loaded, the process that tried it {ended.reason}; is there memory for "
            "the model?"
        ) from error
    if answer.trial is not None:
        return answer.trial
    if answer.code == ModelIncompleteError.code:
        raise ModelIncompleteError(answer.message)
    raise ConfigurationError(answer.message, code=answer.code)
