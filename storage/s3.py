"""A store on any S3-compatible server, through boto3."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import (
    ConnectionError as S3ConnectionError,
)
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from jobs.errors import ConfigurationError
from storage.store import ObjectNotFoundError, StoreError, check_key, check_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ResultT = TypeVar("ResultT")

CONNECT_TIMEOUT_SECONDS = 5
"""A server that is up answers a connection in milliseconds, even far away."""
READ_TIMEOUT_SECONDS = 60
"""Between two bytes of an answer: a busy server may pause, a hung one must not hold a worker."""
MAX_TRIES = 5
"""With waits of up to 0.2, 0.4, 0.8 and 1.6 s this bridges a server's restart of a few seconds at most; a
longer outage is the publisher's to wait out."""
MAX_CONNECTIONS = 64
"""At least the threads of a worker that upload at once: a smaller pool drops and opens connections again."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_TRANSIENT = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "OperationAborted"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where the bucket is, and who asks."""

    endpoint: str
    """Scheme, host and port; no credentials."""
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    @classmethod
    def from_url(cls, url: str) -> S3Settings:
        """Read `http(s)://access_key:secret_key@host:port/bucket[?region=...]`, credentials percent-encoded.

        Raises ConfigurationError (`store_url_invalid`) that says which part is wrong and never quotes it.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _url_error("it is not a URL; percent-encode special characters of the keys") from None
        if parts.scheme not in ("http", "https") or not host:
            raise _url_error("it needs a scheme http or https, and a host")
        if not parts.username or not parts.password:
            raise _url_error("it needs an access key and a secret key before the host")
        bucket = parts.path.strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise _url_error("its path must be one bucket name: 3 to 63 of a-z, 0-9, '-' and '.'")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        region = options.pop("region", "us-east-1")
        if options or parts.fragment or not region:
            raise _url_error("after the bucket only ?region=NAME may follow")
        address = f"[{host}]" if ":" in host else host
        return cls(
            endpoint=f"{parts.scheme}://{address}" + (f":{port}" if port else ""),
            bucket=bucket,
            access_key=unquote(parts.username),
            secret_key=unquote(parts.password),
            region=region,
        )


def _url_error(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the S3 URL (PRESSROOM_S3_URL) cannot be used: {reason}. "
        "It reads http(s)://access_key:secret_key@host:port/bucket[?region=...]",
        code="store_url_invalid",
    )


class S3Store:
    """Holds each object under its key in one bucket; implements storage.store.Store.

    Makes the bucket if it is missing. An object's media type is sent along, but what counts is in Postgres:
    not every server keeps it.
    """

    def __init__(self, settings: S3Settings) -> None:
        """Raises StoreError if the server does not answer or refuses the credentials."""
        self._settings = settings
        self._client = _client(settings)
        self._make_bucket()

    @property
    def location(self) -> str:
        return f"{self._settings.endpoint}/{self._settings.bucket}"

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        check_key(key)
        self._try(
            f"store {key!r}",
            lambda: self._client.put_object(
                Bucket=self._settings.bucket, Key=key, Body=body, ContentType=media_type
            ),
        )

    def get(self, key: str) -> bytes:
        check_key(key)

        def read() -> bytes:
            answer = self._client.get_object(Bucket=self._settings.bucket, Key=key)
            with answer["Body"] as stream:
                body: bytes = stream.read()
            return body

        return self._try(f"read {key!r}", read)

    def exists(self, key: str) -> bool:
        check_key(key)
        try:
            self._try(
                f"look for {key!r}",
                lambda: self._client.head_object(Bucket=self._settings.bucket, Key=key),
            )
        except ObjectNotFoundError:
            return False
        return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        last = ""
        while True:
            page = self._page(prefix, last)
            yield from page
            if not page:
                return
            last = page[-1]

    def delete(self, key: str) -> None:
        check_key(key)
        self._try(
            f"delete {key!r}",
            lambda: self._client.delete_object(Bucket=self._settings.bucket, Key=key),
        )

    def _page(self, prefix: str, last: str) -> list[str]:
        """Up to 1,000 keys after `last`. Each page is a request of its own, so that each can be retried."""
        answer = self._try(
            f"list {prefix!r}",
            lambda: self._client.list_objects_v2(
                Bucket=self._settings.bucket, Prefix=prefix, StartAfter=last
            ),
        )
        return [entry["Key"] for entry in answer.get("Contents", [])]

    def _make_bucket(self) -> None:
        bucket = self._settings.bucket
        try:
            self._try(f"look for bucket {bucket!r}", lambda: self._client.head_bucket(Bucket=bucket))
        except ObjectNotFoundError:
            self._try(f"make bucket {bucket!r}", self._create_bucket)

    def _create_bucket(self) -> None:
        bucket, region = self._settings.bucket, self._settings.region
        try:
            if region == "us-east-1":  # the only region that AWS does not let be named
                self._client.create_bucket(Bucket=bucket)
            else:
                self._client.create_bucket(
                    Bucket=bucket,
                    CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
                )
        except ClientError as error:
            if _code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise  # another process that made it at the same moment is no error

    def _try(self, action: str, call: Callable[[], ResultT]) -> ResultT:
        """Call with retries of what may pass. Raises ObjectNotFoundError or StoreError."""
        retrying = Retrying(
            stop=stop_after_attempt(MAX_TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return retrying(call)
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and _code(error) in _MISSING:
                raise ObjectNotFoundError(f"could not {action}: not found in {self.location}") from error
            raise StoreError(
                f"could not {action} in {self.location}: {error}. Check that the server runs and that the "
                "keys in PRESSROOM_S3_URL may read and write this bucket"
            ) from error


def _client(settings: S3Settings) -> S3Client:
    """A client that any thread may use. Made of explicit settings only: nothing comes from ~/.aws."""
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        region_name=settings.region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # Newer checksum headers are not understood by every S3-compatible server.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=MAX_CONNECTIONS,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},  # one retry policy, ours
            # HTTP_PROXY without NO_PROXY would send a server on this machine through the proxy.
            proxies={} if _is_loopback(settings.endpoint) else None,
        ),
    )
    return client


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or _code(error) in _TRANSIENT
    return isinstance(error, S3ConnectionError | HTTPClientError | IncompleteReadError)
