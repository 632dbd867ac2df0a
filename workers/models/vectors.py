"""Checks that the engine computes the vectors of a sentence-transformers embedding model correctly."""

from __future__ import annotations

from pathlib import Path

from jobs.errors import PermanentError
from workers.models.files import MalformedFileError, parse_json, read_json_object
from workers.models.reading import ModelFiles
from workers.models.selection import MODULES, POOLING, PROMPTS

_MEAN = "pooling_mode_mean_tokens"


class VectorRecipeError(PermanentError):
    """An embedding model requires its vectors to be computed in a way that no engine here supports."""

    code = "model_unsupported"


def check_vectors(folder: Path) -> None:
    """Raise VectorRecipeError unless a vector is the mean of the tokens, which is what the engine computes.

    A folder without MODULES does not specify it and is accepted. Also raises MalformedFileError.
    """
    files = ModelFiles(folder)
    if not files.has(MODULES):
        return
    modules = parse_json(files, MODULES)
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise MalformedFileError(f"{folder / MODULES} is no list of modules: fetch the model again")
    for module in modules:
        module_type = str(module.get("type", "")).rpartition(".")[2][:40]
        if module_type == "Pooling":
            _check_pooling(folder, str(module.get("path", "")))
        elif module_type not in {"Transformer", "Normalize"}:
            raise VectorRecipeError(
                f"{folder / MODULES}: the model's vectors go through a module {module_type!r}, the engine "
                "computes the mean of the tokens alone; use a model without it"
            )
    if files.has(PROMPTS) and read_json_object(folder / PROMPTS).get("default_prompt_name") is not None:
        raise VectorRecipeError(
            f"{folder / PROMPTS}: the model wants a prompt before each text (default_prompt_name), which the "
            "engine does not write; use a model without one"
        )


def _check_pooling(folder: Path, place: str) -> None:
    path = f"{place}/config.json"
    if not POOLING.fullmatch(path) or not (folder / path).exists():
        raise VectorRecipeError(
            f"{folder / MODULES} refers to {place[:40]!r}, which is not there: how the model makes its "
            "vectors is not known; add the whole folder as it was published"
        )
    settings = read_json_object(folder / path)
    modes = {name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True}
    if isinstance(mode := settings.get("pooling_mode"), str):  # the form of newer versions
        modes = {f"pooling_mode_{mode}_tokens"}
    if modes != {_MEAN}:
        names = ", ".join(sorted(name.removeprefix("pooling_mode_")[:40] for name in modes)) or "nothing"
        raise VectorRecipeError(
            f"{folder / path}: the model's vector is made of {names}, the engine computes the mean of the "
            "tokens; use a model with mean pooling"
        )
