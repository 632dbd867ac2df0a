"""A store on any S3-compatible server, through boto3."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSRequest,
    AWSResponse,
)
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
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError
from botocore.utils import determine_content_length
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base
from urllib3.exceptions import HTTPError, NewConnectionError

from jobs.errors import PressroomError
from storage.s3_faults import MISSING, Permission, code_of, is_denied, refusal_of
from storage.s3_settings import Addresses, S3Settings, url_error
from storage.store import (
    PROBE_KEY,
    ObjectEntry,
    ObjectNotFoundError,
    RangesUnsupportedError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    check_key,
    check_prefix,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["S3Settings", "S3Store"]

ResultT = TypeVar("ResultT")

CONNECT_TIMEOUT_SECONDS = 5
"""Maximum time to connect. A running server accepts a connection in milliseconds, even far away."""
READ_TIMEOUT_SECONDS = 60
"""Maximum time between two bytes of a response. A busy server may pause, but a hung one must not block a
worker."""
MAX_TRIES = 5
"""Attempts per call. The waits between them, of up to 0.2, 0.4, 0.8 and 1.6 s, are long enough for a short
server restart. The publisher waits out a longer outage."""
FIRST_CONTACT_SECONDS = 8
"""Time after which no further attempt starts if no call has succeeded yet, so that a wrong address is
reported within seconds."""
MAX_CONNECTIONS = 64
"""Size of the connection pool: at least the number of threads of a worker that upload at once. A smaller pool
drops and reopens connections."""

MAX_UNANNOUNCED_BYTES = 1024 * 1024
"""Maximum size of a body that is sent without `Expect: 100-continue`. Sending a body of this size in vain to
a server that refuses it costs less than asking before each request."""

_MD5 = re.compile(r'"([0-9a-f]{32})"')
"""Matches an entity tag that is the MD5 of an object. Tags of multipart uploads have a different form."""


class TruncatedBodyError(Exception):
    """The server did not send the object's length, and nothing else shows that the object is complete."""


class S3Store:
    """A storage.store.Store that keeps each object under its key in one bucket.

    Only s3:GetObject and s3:PutObject are required. Without s3:ListBucket, a missing object looks like a
    forbidden one. The media type is sent with each object, but the one in Postgres is authoritative, because
    not every server stores it.
    """

    def __init__(
        self, settings: S3Settings, *, addresses: Addresses | None = None, makes_bucket: bool = True
    ) -> None:
        """Connect to the bucket, and create it if it is missing and `makes_bucket` is set.

        With `addresses`, connections go only to the addresses that it returns, and never through a proxy.
        Raises StoreUnavailableError if the server does not answer, StoreRefusedError for errors that waiting
        does not resolve, and ConfigurationError if there are no keys.
        """
        self._settings = settings
        self._succeeded: set[Permission] = set()
        """Permissions that have worked in this process. From then on, a refusal counts as an outage."""
        self._client = _client(settings, addresses)
        self._look_for_bucket(makes_bucket)

    @property
    def location(self) -> str:
        return self._settings.location

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        check_key(key)
        self._try(
            f"store {key!r}",
            Permission.PUT,
            lambda: self._client.put_object(
                Bucket=self._settings.bucket, Key=key, Body=body, ContentType=media_type
            ),
        )

    def get(self, key: str) -> bytes:
        check_key(key)
        return self._try(f"read {key!r}", Permission.GET, lambda: self._read(key))

    def _read(self, key: str) -> bytes:
        """Read an object and check that it is complete, by its length, its last chunk or its entity tag."""
        response = self._client.get_object(Bucket=self._settings.bucket, Key=key)
        body = _body_of(response)
        headers = response["ResponseMetadata"]["HTTPHeaders"]
        if "content-length" not in headers and headers.get("transfer-encoding", "").lower() != "chunked":
            tag = _MD5.fullmatch(response.get("ETag", ""))
            if tag is None or hashlib.md5(body, usedforsecurity=False).hexdigest() != tag[1]:
                raise TruncatedBodyError("the response has no content length, so it may be incomplete")
        return body

    def get_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        check_key(key)
        if num_bytes <= 0:
            return b""
        return self._try(
            f"read a part of {key!r}", Permission.GET, lambda: self._read_range(key, offset, num_bytes)
        )

    def _read_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        """Read a range. Raises RangesUnsupportedError if the server sends the whole object instead."""
        try:
            response = self._client.get_object(
                Bucket=self._settings.bucket, Key=key, Range=f"bytes={offset}-{offset + num_bytes - 1}"
            )
        except ClientError as error:
            if code_of(error) in ("InvalidRange", "416"):
                return b""  # the object ends before the offset
            raise
        if not response.get("ContentRange", "").startswith(f"bytes {offset}-"):
            response["Body"].close()
            raise RangesUnsupportedError(
                f"{self.location} ignores the Range header, which is needed to read small results: use an S3 "
                "server that supports it"
            )
        return _body_of(response)

    def exists(self, key: str) -> bool:
        check_key(key)
        try:
            self._try(
                f"check for {key!r}",
                Permission.GET,
                lambda: self._client.head_object(Bucket=self._settings.bucket, Key=key),
            )
        except ObjectNotFoundError:
            return False
        except StoreRefusedError as error:
            if error.__cause__ is not None and is_denied(error.__cause__):
                return False
            raise
        return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        yield from (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]:
        check_prefix(prefix)
        last = ""
        while True:
            page = self._page(prefix, last)
            yield from page
            if not page:
                return
            last = page[-1].key

    def delete(self, key: str) -> None:
        check_key(key)
        self._try(
            f"delete {key!r}",
            Permission.DELETE,
            lambda: self._client.delete_object(Bucket=self._settings.bucket, Key=key),
        )

    def _page(self, prefix: str, last: str) -> list[ObjectEntry]:
        """Return up to 1,000 entries whose keys follow `last`, with a request that is retried separately."""
        response = self._try(
            f"list {prefix!r}",
            Permission.LIST,
            lambda: self._client.list_objects_v2(
                Bucket=self._settings.bucket, Prefix=prefix, StartAfter=last
            ),
        )
        return [
            ObjectEntry(entry["Key"], entry["Size"], entry["LastModified"])
            for entry in response.get("Contents", [])
        ]

    def _look_for_bucket(self, makes_bucket: bool) -> None:
        """Create the bucket if it is missing and `makes_bucket` is set.

        If looking for the bucket is forbidden, the store uses it without this check.
        """
        bucket = self._settings.bucket
        try:
            self._try(
                "check for the bucket", Permission.LIST, lambda: self._client.head_bucket(Bucket=bucket)
            )
            self._succeeded.discard(Permission.LIST)  # it may be granted for some prefixes only
        except ObjectNotFoundError as error:
            if not makes_bucket:
                raise StoreRefusedError(
                    f"there is no bucket at {self.location}: correct {self._settings.variable}",
                    code="store_bucket_missing",
                ) from error
            self._try("create the bucket", Permission.CREATE, self._create_bucket)
        except StoreRefusedError as error:
            if error.__cause__ is None or not is_denied(error.__cause__):
                raise
            self._check_keys()

    def _check_keys(self) -> None:
        """Raise StoreRefusedError for wrong keys or a wrong bucket, which a HEAD request does not reveal."""
        try:
            self.get(PROBE_KEY)
        except ObjectNotFoundError:
            return
        except StoreRefusedError as error:
            if error.__cause__ is None or not is_denied(error.__cause__):
                raise

    def _create_bucket(self) -> None:
        bucket, region = self._settings.bucket, self._settings.region
        try:
            if region == "us-east-1":  # the only region that AWS does not accept as a location constraint
                self._client.create_bucket(Bucket=bucket)
            else:
                self._client.create_bucket(
                    Bucket=bucket,
                    CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
                )
        except ClientError as error:
            if code_of(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise  # it is not an error if another process has just created it

    def _try(self, action: str, permission: Permission, call: Callable[[], ResultT]) -> ResultT:
        """Make a call, and retry it after temporary errors.

        Raises ObjectNotFoundError, StoreRefusedError or StoreUnavailableError.
        """
        stop: stop_base = stop_after_attempt(MAX_TRIES)
        if not self._succeeded:
            stop |= stop_after_delay(FIRST_CONTACT_SECONDS)
        retrying = Retrying(
            stop=stop,
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(lambda error: self._may_pass(error, permission)),
            reraise=True,
        )
        try:
            result = retrying(call)
        except PressroomError:
            raise
        except (BotoCoreError, ClientError, ResponseParserError, TruncatedBodyError) as error:
            raise self._named(action, permission, error) from error
        self._succeeded.add(permission)
        return result

    def _named(
        self, action: str, permission: Permission, error: Exception
    ) -> StoreError | ObjectNotFoundError:
        where = f"could not {action} in {self.location}"
        if code_of(error) in MISSING:
            return ObjectNotFoundError(f"{where}: the object does not exist")
        if is_denied(error) and permission is Permission.GET and permission in self._succeeded:
            return ObjectNotFoundError(
                f"{where}: the object does not exist, or {permission} is not granted; without "
                f"{Permission.LIST} the server does not report which of the two is true"
            )
        refusal = refusal_of(error, permission, self._settings.variable)
        if refusal is None:
            reason = re.sub(r"\s+", " ", str(error))[:500]
            return StoreUnavailableError(
                f"{where}: {reason}. Check that the server is running and that the URL names the right one"
            )
        message = f"{where}: {refusal.reason}; {refusal.advice}"
        if permission in self._succeeded:
            return StoreUnavailableError(message, code=refusal.code)
        return StoreRefusedError(message, code=refusal.code)

    def _may_pass(self, error: BaseException, permission: Permission) -> bool:
        """Return whether the same call may succeed a moment later."""
        if isinstance(error, PressroomError) or refusal_of(error, permission, "") is not None:
            return False
        return isinstance(
            error,
            S3ConnectionError
            | HTTPClientError
            | IncompleteReadError
            | ResponseParserError
            | TruncatedBodyError
            | ClientError,
        )


def _body_of(response: GetObjectOutputTypeDef) -> bytes:
    """Read the body of a response to its end, and check its length if the response states it."""
    with closing(response["Body"]) as stream:  # entering the stream itself would skip its length check
        body: bytes = stream.read()
    return body


def _client(settings: S3Settings, addresses: Addresses | None) -> S3Client:
    """Create a client that any thread may use."""
    is_direct = addresses is not None or _is_loopback(settings.endpoint)
    session = _session(settings)
    client: S3Client = session.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token,
        region_name=settings.region,
        verify=settings.ca_bundle,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": settings.addressing_style},
            # Not every S3-compatible server understands the newer checksum headers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=MAX_CONNECTIONS,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},  # S3Store._try makes all retries
            # With HTTP_PROXY but no NO_PROXY, requests to this machine would go through the proxy.
            proxies={} if is_direct else None,
        ),
    )
    client.meta.events.register("before-sign.s3.PutObject", _remove_expect_header)
    if addresses is not None:
        guarded = _GuardedSession(addresses, verify=settings.ca_bundle or True)
        send: Any = lambda request, **_: guarded.send(request)  # noqa: E731 - the stubs allow no return value
        client.meta.events.register("before-send.s3", send)
    return client


def _remove_expect_header(request: AWSRequest, **_: object) -> None:
    """Send a small body without waiting for the server's consent, because waiting takes a round trip."""
    num_bytes = determine_content_length(request.body)
    if num_bytes is not None and num_bytes <= MAX_UNANNOUNCED_BYTES:
        del request.headers["Expect"]


def _session(settings: S3Settings) -> boto3.session.Session:
    """Create a session. If the settings contain keys, it reads nothing from ~/.aws or a profile."""
    if settings.access_key is not None:
        nothing = {
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
        return boto3.session.Session(botocore_session=botocore.session.Session(session_vars=nothing))
    session = boto3.session.Session()
    if session.get_credentials() is None:
        raise url_error(
            settings.variable,
            "it contains no keys, and boto3 finds none in the environment, a profile, a container or a role",
        )
    return session


class _GuardedConnection(AWSHTTPConnection):
    """A connection that tries the allowed addresses of its host in order. TLS still uses the host's name."""

    addresses: Addresses

    def _new_conn(self) -> socket.socket:
        host = self._dns_host
        error: HTTPError | None = None
        try:
            for address in self.addresses(host, self.port or self.default_port):
                self._dns_host = address
                try:
                    return super()._new_conn()
                except HTTPError as failure:
                    error = failure
        finally:
            self._dns_host = host
        raise error or NewConnectionError(self, f"the host name {host} cannot be resolved")


class _GuardedSession(URLLib3Session):
    """Botocore's HTTP session, with connections to allowed addresses only."""

    def __init__(self, addresses: Addresses, *, verify: str | bool) -> None:
        super().__init__(
            verify=verify,  # type: ignore[arg-type]  # it may also be the path of a file
            proxies={},
            timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),  # type: ignore[arg-type]
            max_pool_connections=MAX_CONNECTIONS,
        )
        options = {"addresses": staticmethod(addresses)}
        plain = type("Connection", (_GuardedConnection,), options)
        tls: Any = type("TlsConnection", (AWSHTTPSConnection, _GuardedConnection), options)
        manager: Any = self._manager  # type: ignore[attr-defined]
        manager.pool_classes_by_scheme = {
            "http": type("Pool", (AWSHTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("TlsPool", (AWSHTTPSConnectionPool,), {"ConnectionCls": tls}),
        }

    def send(self, request: AWSRequest | AWSPreparedRequest) -> AWSResponse:
        """Send the request as botocore does, but raise the address check's own error if that check failed."""
        try:
            return super().send(request)
        except HTTPClientError as error:
            cause = error.kwargs.get("error")
            if isinstance(cause, PressroomError):
                raise cause from error
            raise


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
