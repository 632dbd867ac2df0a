"""The plan of `pressroom train classifier`: one labelled file, or a TOML file that names several."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError, InputError
from jobs.intake.files import TOML_ERRORS, check_input, open_input, read_toml
from jobs.intake.files import digest_of as digest_of  # for the files of a plan
from jobs.rejection import FileRejectedError
from kinds.classifier.order import LABELS, Label, LabelledFile, Recipe, TrainingOrder
from kinds.classifier.training.data import LabelledData, read_labelled
from kinds.classifier.training.split import num_needed, split_examples
from workers.models.manifest import check_name, model_folder, read_manifest

PLAN_SUFFIX = ".toml"

MANY = 4
"""Multiple of the needed texts from which on near-duplicates are not searched before workers start.

By the default shares that is 1,200 texts, for which the search takes a third of a second.
"""


class TrainingDataMissingError(ConfigurationError):
    """A file that a plan names was not found."""

    code = "training_data_missing"


class Plan(BaseModel):
    """A repeatable training: its files by their digests, and how it is fitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    base: str
    seed: int = Field(default=0, ge=0, lt=2**31)
    files: tuple[LabelledFile, ...] = Field(min_length=1)
    recipe: Recipe = Recipe()


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order with the bytes of its files, of which every line was read once."""

    order: TrainingOrder
    bodies: Mapping[str, bytes]
    """Content of the files by SHA-256."""
    data: tuple[LabelledData, ...]

    @property
    def idempotency_key(self) -> str:
        """Return the key by which the same order continues the same training."""
        return f"train-{hashlib.sha256(self.order.model_dump_json().encode()).hexdigest()[:32]}"


def read_plan(path: Path) -> Plan:
    """Read a TOML file. Raises an InputError that names the invalid field."""
    try:
        return Plan.model_validate(read_toml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}", code="training_plan_invalid") from error
    except TOML_ERRORS as error:
        raise InputError(f"{path}: not TOML ({error})", code="training_plan_invalid") from error


def first_fault(error: ValidationError) -> str:
    """Return the place and the message of the first fault."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def parse_map(text: str) -> dict[str, Label]:
    """Parse `negative=0,neutral=2,positive=1` to a mapping from label to class; classes may be repeated.

    >>> parse_map("negative=0, neutral=2, positive=1")
    {'0': 'negative', '2': 'neutral', '1': 'positive'}
    """
    found: dict[str, Label] = {}
    for part in text.split(","):
        name, equals, given = (each.strip() for each in part.partition("="))
        label = next((each for each in LABELS if each == name.lower()), None)
        if label is None or not equals or not given or given in found:
            raise InputError(
                f"{part.strip()!r} is not CLASS=LABEL with negative, neutral or positive and a label of the "
                "file that no other class has",
                code="label_map_invalid",
            )
        found[given] = label
    return found


def prepare(plan: Plan, folder: Path, models_folder: Path) -> Prepared:
    """Find and read the plan's files in the folder, before anything is started.

    A name may contain folders; if it is not found under the folder, its last part is tried. Raises InputError
    or ConfigurationError.
    """
    check_name(plan.model)
    base = read_manifest(model_folder(models_folder, plan.base))
    bodies, data = {}, []
    for number, file in enumerate(plan.files):
        with open_input(_find(file, folder)) as opened:
            body = opened.read()
        data.append(read_labelled(body, file, number))
        bodies[file.sha256] = body
    order = TrainingOrder(
        model=plan.model,
        base=plan.base,
        base_weights_sha256=base.weights_sha256,
        files=plan.files,
        recipe=plan.recipe,
        seed=plan.seed,
    )
    return Prepared(order, bodies, tuple(data))


def check_size(prepared: Prepared) -> None:
    """Raise SplitError if there are too few texts to hold some out, before workers are started.

    A large number of texts is not checked here but by the training: it could be too small only if most were
    near-duplicates, and finding those takes 0.3 ms per text.
    """
    shares = {"dev_share": prepared.order.recipe.dev_share, "test_share": prepared.order.recipe.test_share}
    examples = [example for data in prepared.data for example in data.examples]
    if len(examples) < MANY * num_needed(**shares):
        split_examples(examples, seed=prepared.order.seed, **shares)


def _find(file: LabelledFile, folder: Path) -> Path:
    for path in (folder / file.name, folder / Path(file.name).name):
        with suppress(FileRejectedError):
            check_input(path)
            return path
    origin = f" from {file.source}" if file.source else ""
    raise TrainingDataMissingError(
        f"{file.name} is not in {folder}: get it{origin} and say where it is with --data"
    )
