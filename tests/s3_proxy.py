"""A proxy before an S3 server that forbids, cuts or replaces answers: policies and faults of others."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

ACTIONS = frozenset(
    {"GetObject", "HeadObject", "PutObject", "DeleteObject", "ListBucket", "HeadBucket", "CreateBucket"}
)

ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>{}</Message></Error>'


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answers, or what comes in its place."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_cut: bool = False
    """Close the connection after the body, whatever the headers promise."""


Rewrite = Callable[[str, str, Answer], Answer]
"""Action, key and the server's answer -> the answer that is sent."""


@dataclass(slots=True)
class S3Proxy:
    """A running proxy."""

    url: str
    """Of the bucket, through the proxy."""
    allowed: frozenset[str] = ACTIONS
    """Actions; the rest is answered by 403, as Amazon does."""
    rewrite: Rewrite = field(default=lambda _action, _key, answer: answer)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Action and key of each request."""
    expecting: list[str] = field(default_factory=list)
    """Keys of the requests that waited for the server's consent before they sent their body."""


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[S3Proxy]
    upstream: ClassVar[tuple[str, int]]
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action, key = action_of(self.command, self.path)
        self.proxy.asked.append((action, key))
        if self.headers.get("Expect"):
            self.proxy.expecting.append(key)
        may_list = "ListBucket" in self.proxy.allowed
        if _permission(action) not in self.proxy.allowed:
            self._send(_denied(self.command))
            return
        answer = self._forward(body)
        if answer.status == 404 and not may_list and action in ("GetObject", "HeadObject"):
            answer = _denied(self.command)  # Amazon does not tell what is there to those who may not list
        self._send(self.proxy.rewrite(action, key, answer))

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _serve

    def _forward(self, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(*self.upstream, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)  # the host, too: it is signed
            connection.endheaders(body or None)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if answer.is_cut:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Silent."""


def action_of(method: str, path: str) -> tuple[str, str]:
    """Amazon's name of what is asked, and the key.

    >>> action_of("GET", "/bucket/a/b"), action_of("GET", "/bucket?list-type=2&prefix=a")
    (('GetObject', 'a/b'), ('ListBucket', 'a'))
    """
    parts = urlsplit(path)
    key = parts.path.strip("/").partition("/")[2]
    if key:
        return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[
            method
        ], key
    prefix = parse_qs(parts.query).get("prefix", [""])[0]
    return {"GET": "ListBucket", "HEAD": "HeadBucket", "PUT": "CreateBucket"}[method], prefix


def _permission(action: str) -> str:
    return {"HeadObject": "GetObject", "HeadBucket": "ListBucket"}.get(action, action)


def _denied(method: str) -> Answer:
    body = b"" if method == "HEAD" else ERROR.format("AccessDenied", "Access Denied").encode()
    return Answer(403, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body)


@contextmanager
def s3_proxy(url: str) -> Iterator[S3Proxy]:
    """Stand before the server of this bucket's URL until the block ends."""
    parts = urlsplit(url)
    handler = type("Handler", (_Handler,), {"upstream": (parts.hostname, parts.port)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{server.server_port}"
    proxy = S3Proxy(parts._replace(netloc=netloc).geturl())
    handler.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
