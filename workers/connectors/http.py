"""Sends an HTTP request to a checked address, with limits on time and size, without redirects or a proxy."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx

from jobs.errors import PermanentError, TransientError
from workers.connectors.addresses import Address, AddressGuard, Destination, UnreachableError

CONNECT_SECONDS = 10.0
READ_SECONDS = 15.0
"""Maximum number of seconds between two parts of a response."""

USER_AGENT = "pressroom (+scheduled reader)"


class BodyTooLargeError(PermanentError):
    """A response is larger than allowed, either as it was sent or after unpacking."""

    code = "body_too_large"


class BodyEncodingError(PermanentError):
    """A response has an encoding that was not requested, or its gzip data are damaged."""

    code = "body_encoding"


class BodyTruncatedError(TransientError):
    """A response is incomplete, or it cannot be determined whether it is complete."""

    code = "body_truncated"


@contextmanager
def exchange(
    method: str,
    url: str,
    guard: AddressGuard,
    *,
    headers: Mapping[str, str],
    total_seconds: float,
    content: bytes | None = None,
) -> Iterator[httpx.Response]:
    """Send a request and yield the response before its body is read; the caller reads the body.

    `total_seconds` limits the time from the request to the end of the body.

    Raises AddressRefusedError and UnreachableError, the latter also if the body cannot be read in time.
    """
    destination = guard.find_destination(url)
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    # SSL_CERT_FILE is used, but HTTP_PROXY is not, because a proxy would resolve the name again.
    with (
        httpx.Client(timeout=timeout, verify=httpx.create_ssl_context(), trust_env=False) as client,
        _Deadline(total_seconds) as deadline,
    ):
        try:
            response = _send(client, destination, method, headers, content, deadline)
            try:
                yield response
            except BodyTruncatedError:
                if not deadline.is_over:
                    raise
            finally:
                response.close()
            if deadline.is_over:  # without a length, a body that was cut off appears to be complete
                raise httpx.ReadTimeout("it was cut off")
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(
                f"{guard.name} did not send a complete response within {total_seconds:.0f} s ({reason}): "
                "try it with curl",
                code=f"{guard.what}_unreachable",
            ) from error


def _send(
    client: httpx.Client,
    destination: Destination,
    method: str,
    headers: Mapping[str, str],
    content: bytes | None,
    deadline: _Deadline,
) -> httpx.Response:
    """Send the request to the first address that accepts a connection. Host and TLS use the host name."""
    last = len(destination.addresses) - 1
    for number, address in enumerate(destination.addresses):
        request = _request(client, destination, address, method, headers, content, deadline)
        try:
            return client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == last:
                raise
    raise httpx.ConnectError("the host name cannot be resolved")


def _request(
    client: httpx.Client,
    destination: Destination,
    address: Address,
    method: str,
    headers: Mapping[str, str],
    content: bytes | None,
    deadline: _Deadline,
) -> httpx.Request:
    url = destination.url
    return client.build_request(
        method,
        url.copy_with(host=str(address)),
        content=content,
        headers={
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "gzip",
            **headers,
            "Host": url.netloc.decode("ascii"),
        },
        extensions={"sni_hostname": url.raw_host.decode("ascii"), "trace": deadline.trace},
    )


class _Deadline:
    """A timer that closes the connection, because httpx limits each pause but not the whole duration."""

    def __init__(self, seconds: float) -> None:
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Record each socket that httpcore reports; for TLS, a second socket replaces the first one."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self.is_over:
                self._cut()

    def _cut(self) -> None:
        self.is_over = True
        for connection in list(self._sockets):
            with suppress(OSError):  # already closed, or replaced by the socket of TLS
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Gunzip:
    """A decompressor for gzip data of one or more members (RFC 1952, 2.2).

    After the last member, only zero bytes are allowed.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def unpack(self, part: bytes, max_bytes: int) -> bytes:
        """Unpack a part, up to `max_bytes` of output.

        Once that limit is reached, do not call this method again, because the rest of the part is lost.
        Raises zlib.error.
        """
        unpacked = bytearray()
        while part and len(unpacked) < max_bytes:
            if self._member.eof:
                part = part.lstrip(b"\0")
                if not part:
                    break
                self._member = zlib.decompressobj(wbits=31)
            unpacked += self._member.decompress(part, max_bytes - len(unpacked))
            part = self._member.unused_data
        return bytes(unpacked)

    @property
    def is_whole(self) -> bool:
        """Return whether the last member is complete and its length and checksum have been verified."""
        return self._member.eof


def read_body(
    response: httpx.Response, *, name: str, max_bytes: int, is_whole: Callable[[bytes], bool] | None = None
) -> bytes:
    """Return the complete body, unpacked.

    Completeness is determined by the length, the last chunk or the end of the gzip data; without any of
    these, by `is_whole`. Raises BodyTooLargeError before the whole body is in memory, BodyEncodingError and
    BodyTruncatedError.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise BodyEncodingError(
            f"{name} is sent with the encoding {encoding[:40]!r}: configure its server to send it "
            "uncompressed or as gzip"
        )
    gunzip = _Gunzip() if encoding.endswith("gzip") else None
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += chunk if gunzip is None else gunzip.unpack(chunk, max_bytes + 1 - len(body))
            if len(body) > max_bytes:
                raise BodyTooLargeError(f"{name} has more than {max_bytes:,} bytes")
    except zlib.error as error:
        raise BodyEncodingError(f"{name} is declared as gzip but cannot be unpacked: {error}") from error
    if gunzip is not None and not gunzip.is_whole:
        raise BodyTruncatedError(f"{name} was cut off: its gzip data ends after {len(body):,} unpacked bytes")
    is_framed = "content-length" in response.headers or "transfer-encoding" in response.headers
    if not is_framed and gunzip is None and not (is_whole is not None and is_whole(bytes(body))):
        raise BodyTruncatedError(
            f"{name} was sent without a length, so its {len(body):,} bytes may be incomplete: "
            "configure its server to send Content-Length"
        )
    return bytes(body)
