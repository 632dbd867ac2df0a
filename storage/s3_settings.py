"""Settings that the URL of an S3 store contains: the bucket, the credentials and the connection options."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from jobs.errors import ConfigurationError

DEFAULT_REGION = "us-east-1"
"""Region if the URL names none. Servers other than Amazon's expect this one; Amazon's host names contain the
region."""

OPTIONS = ("region", "session_token", "ca_bundle", "addressing_style")
"""Options that may follow the bucket in the URL; boto3 uses the same names."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_AMAZON = re.compile(
    r"s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]{1,10}){1,3}-[0-9]{1,2})\.amazonaws\.com(?:\.cn)?"
)

AddressingStyle = Literal["path", "virtual"]

Addresses = Callable[[str, int], Sequence[str]]
"""Function that returns the addresses to which connections to a host and port are allowed. Raises
PressroomError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """The location of a bucket, the credentials for it, and the options of the connection."""

    endpoint: str
    """Scheme, host and port, without credentials."""
    bucket: str
    access_key: str | None = None
    """Access key. If None, boto3 looks for keys in the environment, a profile, a container or a role."""
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = DEFAULT_REGION
    ca_bundle: str | None = None
    """Path of a file of certificates to trust instead of the public ones."""
    addressing_style: AddressingStyle = "path"
    """Whether the bucket is in the path or is the first part of the host name."""
    variable: str = "PRESSROOM_S3_URL"
    """Source of the URL, which messages name in place of the URL itself."""

    @classmethod
    def from_url(cls, url: str, *, variable: str = "PRESSROOM_S3_URL") -> S3Settings:
        """Parse `http(s)://[access_key:secret_key@]host:port/bucket[?option=...]`, each part percent-encoded.

        Raises ConfigurationError (`store_url_invalid`). Its message names the wrong part but never quotes it.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise url_error(
                variable, "it is not a URL; percent-encode special characters of the keys"
            ) from None
        if parts.scheme not in ("http", "https") or not host:
            raise url_error(variable, "it must have the scheme http or https, and a host")
        if bool(parts.username) != bool(parts.password):
            raise url_error(
                variable, "it contains only one of access key and secret key: give both before the host"
            )
        bucket = parts.path.strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise url_error(variable, "its path must be one bucket name: 3 to 63 of a-z, 0-9, '-' and '.'")
        if parts.fragment:
            raise url_error(variable, "a '#' must be written as %23")
        options = _options(parts.query, variable)
        amazon = _AMAZON.fullmatch(host)
        address = f"[{host}]" if ":" in host else host
        return cls(
            endpoint=f"{parts.scheme}://{address}" + (f":{port}" if port else ""),
            bucket=bucket,
            access_key=unquote(parts.username) if parts.username else None,
            secret_key=unquote(parts.password) if parts.password else None,
            session_token=_session_token(options, bool(parts.username), variable),
            region=options.get("region") or (amazon[1] if amazon else DEFAULT_REGION),
            ca_bundle=_ca_bundle(options, parts.scheme, variable),
            addressing_style=_addressing_style(options, variable),
            variable=variable,
        )

    @property
    def location(self) -> str:
        """URL of the bucket without secrets, for messages."""
        return f"{self.endpoint}/{self.bucket}"


def url_error(variable: str, reason: str) -> ConfigurationError:
    """Return the error for an unusable URL. Its message quotes no part of the URL."""
    return ConfigurationError(
        f"the S3 URL ({variable}) cannot be used: {reason}. Its form is "
        "http(s)://access_key:secret_key@host:port/bucket; options follow as ?NAME=VALUE: "
        f"{', '.join(OPTIONS)}",
        code="store_url_invalid",
    )


def _options(query: str, variable: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise url_error(variable, "it names an option twice")
    for name, value in options.items():
        if name not in OPTIONS:
            raise url_error(variable, f"its option {name[:40]!r} is unknown")
        if not value:
            raise url_error(variable, f"its option {name} is empty")
    return options


def _session_token(options: dict[str, str], has_keys: bool, variable: str) -> str | None:
    token = options.get("session_token")
    if token is not None and not has_keys:
        raise url_error(
            variable,
            "a session token is valid only with the keys that were issued with it: give the keys as well",
        )
    return token


def _ca_bundle(options: dict[str, str], scheme: str, variable: str) -> str | None:
    path = options.get("ca_bundle")
    if path is None:
        return None
    if scheme != "https":
        raise url_error(variable, "ca_bundle requires TLS, but the scheme is http")
    if not Path(path).is_file():
        raise url_error(variable, f"the file {path[:200]!r}, which ca_bundle names, does not exist")
    return path


def _addressing_style(options: dict[str, str], variable: str) -> AddressingStyle:
    style = options.get("addressing_style", "path")
    if style not in ("path", "virtual"):
        raise url_error(variable, "addressing_style must be path or virtual")
    return cast("AddressingStyle", style)
