"""Where artifacts are kept: one contract, chosen by URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.errors import ConfigurationError
from storage.store import Store


def open_store(url: str) -> Store:
    """Open the store that the URL names: `http(s)://key:secret@host/bucket`, `file:/folder` or `memory:`.

    Raises ConfigurationError for a URL it cannot read, StoreError if the S3 server does not answer. The
    message never holds the URL, which has a secret in it.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        from storage.s3 import S3Settings, S3Store  # boto3 costs 0.3 s to import

        return S3Store(S3Settings.from_url(url))
    if scheme == "file":
        from storage.filesystem import FilesystemStore

        return FilesystemStore(Path(unquote(urlsplit(url).path)))
    if scheme == "memory":
        from storage.memory import MemoryStore

        return MemoryStore()
    raise ConfigurationError(
        "a store URL begins with http:, https:, file: or memory:; check PRESSROOM_S3_URL",
        code="store_url_invalid",
    )
