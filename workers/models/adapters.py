"""Models that are an adapter on a base: those that Pressroom brings along, and those trained here."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import ConfigurationError
from workers.models.files import MalformedFileError, read_json_object
from workers.models.manifest import WeightsDigestError, file_entry, weights_digest
from workers.models.sources import Download, Progress, Source, last_lines

BUNDLED = Path(__file__).parent / "bundled"

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
"""What the merge reads."""
COPIED_FILES = ("classifier.json", "evaluation.json", "recipe.json", "MODEL_CARD.md")
"""What goes along into the installed model."""


class MergeError(ConfigurationError):
    """The child process that merges an adapter into its base failed."""

    code = "model_merge_failed"


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A folder with an adapter, its recipe and its card; the base comes from a source of its own."""

    name: str
    folder: Path
    base: Source
    scheme: str = "trained"
    """"bundled" for a model that Pressroom brings along."""

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}#sha256={self.revision}"

    @property
    def revision(self) -> str:
        """Of the adapter: its digest."""
        return hashlib.sha256(self._adapter.read_bytes()).hexdigest()

    @property
    def licence(self) -> str | None:
        return self.base.licence

    @property
    def _adapter(self) -> Path:
        return self.folder / ADAPTER_FILES[0]

    def describe(self) -> Download:
        base = self.base.describe()
        sizes = (base.download_bytes, base.installed_bytes)
        copied = 2 * max((size or 0 for size in sizes), default=0)
        return Download(f"{self.name}, an adapter on {base.description}", base.download_bytes, copied)

    def fetch(self, target: Path, progress: Progress) -> None:
        """Raises WeightsDigestError for another base than the adapter was trained on, or MergeError."""
        base = target / "base"
        base.mkdir()
        self.base.fetch(base, progress)
        self._check_base(base)
        progress("merging the adapter into its base; a few seconds")
        self._merge(base, target)
        shutil.rmtree(base)
        for name in COPIED_FILES:
            shutil.copyfile(self.folder / name, target / name)

    def _check_base(self, base: Path) -> None:
        found = weights_digest(tuple(file_entry(path) for path in base.iterdir() if path.is_file()))
        expected = _base_digest(self.folder)
        if found != expected:
            raise WeightsDigestError(
                f"{self.name} was trained on weights {expected[:12]}, {self.base} has {found[:12]}: an "
                "adapter fits its own base only; install that one"
            )

    def _merge(self, base: Path, target: Path) -> None:
        """In a child process, as conversions are."""
        done = subprocess.run(
            [sys.executable, "-m", "workers.training.merge", str(base), str(self.folder), str(target)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise MergeError(
                f"the merge of {self.name} ended with {done.returncode}: {last_lines(done.stderr)}; is the "
                "extra `engine` installed?"
            )


def _base_digest(folder: Path) -> str:
    recipe = read_json_object(folder / "recipe.json")
    base = recipe.get("base")
    digest = base.get("weights_sha256") if isinstance(base, dict) else None
    if not isinstance(digest, str):
        raise MalformedFileError(f"{folder / 'recipe.json'} names no base weights: {json.dumps(base)}")
    return digest
