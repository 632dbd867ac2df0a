"""Stores for artifacts: one contract, several implementations, chosen by URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.errors import ConfigurationError
from storage.s3_settings import Addresses
from storage.store import Store


def open_store(
    url: str,
    *,
    variable: str = "PRESSROOM_S3_URL",
    addresses: Addresses | None = None,
    makes_bucket: bool = True,
) -> Store:
    """Open the store that the URL names: `http(s)://key:secret@host/bucket`, `file:/folder` or `memory:`.

    Messages name `variable` as the source of the URL, but never quote the URL, because it contains a secret.
    With `addresses`, connections go only to the addresses that this function returns for a host and port.
    With `makes_bucket`, a missing bucket is created. Raises ConfigurationError for an invalid URL,
    StoreUnavailableError if the S3 server does not answer, and StoreRefusedError for errors that waiting does
    not resolve.
    """
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        from storage.s3 import S3Settings, S3Store  # imported here, because boto3 takes 0.3 s to import

        settings = S3Settings.from_url(url, variable=variable)
        return S3Store(settings, addresses=addresses, makes_bucket=makes_bucket)
    if scheme == "file":
        from storage.filesystem import FilesystemStore

        return FilesystemStore(Path(unquote(urlsplit(url).path)))
    if scheme == "memory":
        from storage.memory import MemoryStore

        return MemoryStore()
    raise ConfigurationError(
        f"a store URL must begin with http:, https:, file: or memory:; check {variable}",
        code="store_url_invalid",
    )
