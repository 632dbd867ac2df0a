"""A web server of this machine that does what its paths say: feeds, redirects, floods, drips, bombs."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

FEED = b"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>Steel Wire</title>
<item><guid>a1</guid><title>Acme Steel cuts its outlook</title>
<description>Orders fell for the third month.</description>
<pubDate>Mon, 02 Mar 2026 09:30:00 GMT</pubDate></item>
<item><guid>a2</guid><title>Acme Steel names a new chief</title>
<description>The board chose an outsider.</description>
<pubDate>Tue, 03 Mar 2026 10:00:00 GMT</pubDate></item>
</channel></rss>"""

ENTITIES = FEED.replace(
    b"<rss", b'<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]><rss'
).replace(b"Orders", b"&b;")

UNDATED = FEED.replace(b"<pubDate>Tue, 03 Mar 2026 10:00:00 GMT</pubDate>", b"")

MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class HostileServer:
    """A running server."""

    port: int
    scheme: str
    seen: list[Seen] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Answers to POST, in turn; the last one stays; empty: 200."""
    feeds: dict[str, bytes] = field(default_factory=dict)
    """By path; what else is asked for is as the path says, or is not there."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


class _Handler(BaseHTTPRequestHandler):
    state: ClassVar[HostileServer]
    stopped: ClassVar[threading.Event]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._note(b"")
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        media_type = query.get("type", "application/rss+xml")
        if (feed := self.state.feeds.get(parts.path)) is not None:
            self._answer(200, feed, {"Content-Type": media_type})
            return
        match "/" + parts.path.split("/")[1]:  # what follows may be a key
            case "/feed":
                self._answer(200, FEED, {"Content-Type": media_type})
            case "/undated":
                self._answer(200, UNDATED, {"Content-Type": media_type})
            case "/entities":
                self._answer(200, ENTITIES, {"Content-Type": media_type})
            case "/gzip":
                self._answer(200, gzip.compress(FEED), {"Content-Encoding": query.get("as", "gzip")})
            case "/packed":  # cut, with a length that fits, or with more behind it
                packed = (
                    gzip.compress(FEED[:100])
                    + gzip.compress(FEED[100:])
                    + bytes.fromhex(query.get("then", ""))
                )
                self._answer(200, packed[: int(query["cut"])], {"Content-Encoding": "gzip"})
            case "/cut":
                self._cut(query["by"], FEED[: int(query["bytes"])])
            case "/bomb":
                self._answer(200, gzip.compress(bytes(64 * MEGABYTE)), {"Content-Encoding": "gzip"})
            case "/redirect":
                self._answer(302, b"", {"Location": query["to"]})
            case "/loop":
                self._answer(302, b"", {"Location": "/loop"})
            case "/status":
                self._answer(int(query["code"]), b"no")
            case "/flood":
                self._stream(bytes(MEGABYTE), seconds=0)
            case "/drip":
                self._stream(b" ", seconds=0.05)
            case "/silence":
                self.stopped.wait()
            case _:
                self._answer(404, b"nothing")

    def do_POST(self) -> None:
        self._note(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/silence":
            self.stopped.wait()
            return
        statuses = self.state.statuses
        status = 200 if not statuses else statuses.pop(0) if len(statuses) > 1 else statuses[0]
        headers = {"Location": "http://127.0.0.1:1/"} if status in (301, 302, 307) else {}
        self._answer(status, b"", headers)

    def _note(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.state.seen.append(Seen(self.command, self.path, headers, body))

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut(self, framing: str, body: bytes) -> None:
        """A body that ends with the connection, whatever its head promises."""
        heads = {
            "length": f"Content-Length: {len(FEED)}\r\n",
            "chunk": "Transfer-Encoding: chunked\r\n",
            "none": "",
        }
        self.close_connection = True
        self.wfile.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{heads[framing]}\r\n".encode())
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n" if framing == "chunk" else body)

    def _stream(self, part: bytes, *, seconds: float) -> None:
        """Without a length and without an end."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            while not self.stopped.wait(seconds):
                self.wfile.write(part)
        except OSError:  # the client has had enough
            return

    def log_message(self, *_: object) -> None:
        """Silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that goes away in the middle is what these tests are about."""


@contextmanager
def hostile_server(certificate: Path | None = None) -> Iterator[HostileServer]:
    """Serve until the block ends; with a certificate, whose file holds its key, too, over TLS."""
    stopped = threading.Event()
    handler = type("Handler", (_Handler,), {"stopped": stopped})
    server = _Server(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state = HostileServer(server.server_port, "http" if certificate is None else "https")
    handler.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
