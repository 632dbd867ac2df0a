"""Models that consist of an adapter on a base: those bundled with Pressroom, and those trained here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jobs.errors import ConfigurationError
from workers.child_process import EXIT_INCOMPLETE, run_child
from workers.models.classifier import CLASSIFIER, read_classifier_settings
from workers.models.files import WEIGHT_SUFFIX, MalformedFileError, ModelIncompleteError, read_json_object
from workers.models.manifest import WeightsDigestError, file_entry, weights_digest
from workers.models.preparation import settle_files
from workers.models.reading import read_digested
from workers.models.sources import Download, Progress, Source

BUNDLED = Path(__file__).parent / "bundled"

ADAPTER = "adapter_model.safetensors"
ADAPTER_SETTINGS = "adapter_config.json"
"""Name of the adapter's settings file; `PeftModel.from_pretrained` requires this name and that of ADAPTER."""
ADAPTER_FILES = (ADAPTER, ADAPTER_SETTINGS)
"""Names of the files that the merge reads."""
COPIED_FILES = (CLASSIFIER, "evaluation.json", "recipe.json", "MODEL_CARD.md")
"""Names of the files that are copied into the installed model."""


class MergeError(ConfigurationError):
    """The child process that merges an adapter into its base failed."""

    code = "model_merge_failed"


@dataclass(frozen=True)
class AdapterSource:
    """A folder with an adapter, its recipe and its card; the base comes from its own source."""

    name: str
    folder: Path
    base: Source
    scheme: str = "trained"
    """First part of the source's notation: "trained", or "bundled" for a model that comes with Pressroom."""

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}#sha256={self.revision}"

    @cached_property
    def revision(self) -> str:
        """Return the SHA-256 of the adapter's weights."""
        return file_entry(self.folder / ADAPTER).sha256

    @property
    def licence(self) -> str | None:
        return self.base.licence

    def describe(self) -> Download:
        base = self.base.describe()
        sizes = (base.download_bytes, base.installed_bytes)
        copied = 2 * max((size or 0 for size in sizes), default=0)
        return Download(f"{self.name}, an adapter on {base.description}", base.download_bytes, copied)

    def fetch(self, target: Path, progress: Progress) -> None:
        """Fetch the base and merge the adapter into it.

        Raises WeightsDigestError if the adapter was trained on a different base, or ModelIncompleteError or
        MergeError if the merge fails.
        """
        base = target / "base"
        base.mkdir()
        self.base.fetch(base, progress)
        settle_files(base)
        self._check_base(base)
        adapter = self._copy_adapter(target)
        progress("merging the adapter into its base, which takes a few seconds")
        self._merge(base, adapter, target)
        shutil.rmtree(base)
        shutil.rmtree(adapter)
        for name in COPIED_FILES:
            shutil.copyfile(self.folder / name, target / name)

    def _check_base(self, base: Path) -> None:
        actual = weights_digest(tuple(file_entry(path) for path in base.iterdir() if path.is_file()))
        expected = _base_digest(self.folder)
        if actual != expected:
            raise WeightsDigestError(
                f"{self.name} was trained on weights {expected[:12]}, but {self.base} has {actual[:12]}: an "
                "adapter fits only its own base; install that base"
            )

    def _copy_adapter(self, target: Path) -> Path:
        """Copy the adapter to a private folder and check its digest, so that exactly this copy is merged."""
        adapter = target / "adapter"
        adapter.mkdir()
        for name in ADAPTER_FILES:
            (adapter / name).write_bytes(read_digested(self.folder / name, max_bytes=None)[0])
        if (actual := file_entry(adapter / ADAPTER).sha256) != self.revision:
            raise WeightsDigestError(
                f"{self.folder} was changed while it was read: its digest is {actual[:12]}, not "
                f"{self.revision[:12]}"
            )
        return adapter

    def _merge(self, base: Path, adapter: Path, target: Path) -> None:
        """Merge the adapter into its base in a child process, so that torch is not loaded in this one."""
        num_bytes = sum(path.stat().st_size for path in base.glob(f"*{WEIGHT_SUFFIX}"))
        paths = (str(base), str(adapter), str(target))
        labels = read_classifier_settings(self.folder).names
        ended = run_child("workers.engines.adapter", *paths, *labels, model_bytes=2 * num_bytes)
        if ended.code == EXIT_INCOMPLETE:
            raise ModelIncompleteError(
                f"the adapter in {self.folder} cannot be merged ({ended.last_line}): use the files that the "
                "training wrote"
            )
        if ended.code != 0:
            raise MergeError(
                f"the merge of {self.name} {ended.reason}; check that the extra `engine` is installed and "
                "that there is enough memory for the model"
            )


def _base_digest(folder: Path) -> str:
    recipe = read_json_object(folder / "recipe.json")
    base = recipe.get("base")
    digest = base.get("weights_sha256") if isinstance(base, dict) else None
    if not isinstance(digest, str):
        raise MalformedFileError(
            f"{folder / 'recipe.json'} does not name the weights of the base (base.weights_sha256): "
            "use the file that the training wrote"
        )
    return digest
