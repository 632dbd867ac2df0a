"""A pooler of transactions before a real Postgres, as PgBouncer is one: no session outlives a transaction.

Each transaction of a client gets the server connection that has been idle the longest. Like PgBouncer it asks
clients for no more than a user and a database, refuses `options`, and invents process ids; in disguise it
does neither, so that nothing tells it from the server.
"""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
from contextlib import suppress

import psycopg

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104

PARAMETERS = (
    "server_version",
    "server_encoding",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
)


class Pooler:
    """Listens on a port of 127.0.0.1. Enter it to start, leave it to stop."""

    def __init__(self, url: str, *, num_servers: int = 4, is_disguised: bool = False) -> None:
        self._url = url
        self._is_disguised = is_disguised
        self._idle: queue.Queue[psycopg.Connection] = queue.Queue()
        self._servers = [psycopg.connect(url, autocommit=True) for _ in range(num_servers)]
        for server in self._servers:
            self._idle.put(server)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.statements: list[bytes] = []
        """Bodies of the messages Query and Parse that clients have sent."""

    @property
    def url(self) -> str:
        head, _, rest = self._url.rpartition("@")
        return f"{head}@127.0.0.1:{self._listener.getsockname()[1]}/{rest.partition('/')[2]}"

    def __enter__(self) -> Pooler:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for server in self._servers:
            server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError, psycopg.Error):
            if self._greet(client):
                while self._run_transaction(client):
                    pass

    def _greet(self, client: socket.socket) -> bool:
        length, code = struct.unpack("!ii", _exactly(client, 8))
        while code in (SSL_REQUEST, GSS_REQUEST):
            client.sendall(b"N")
            length, code = struct.unpack("!ii", _exactly(client, 8))
        if b"\0options\0" in b"\0" + _exactly(client, length - 8) and not self._is_disguised:
            fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(_message(b"E", fields))
            return False
        server = self._servers[0]
        values = {name: server.info.parameter_status(name) or "" for name in PARAMETERS}
        status = [_message(b"S", f"{name}\0{value}\0".encode()) for name, value in values.items()]
        pid = server.info.backend_pid if self._is_disguised else 1
        key = _message(b"K", struct.pack("!ii", pid, 0))
        client.sendall(_message(b"R", struct.pack("!i", 0)) + b"".join(status) + key + _message(b"Z", b"I"))
        return True

    def _run_transaction(self, client: socket.socket) -> bool:
        """Relay until the server is idle again; False once the client has gone."""
        kind, body = _read(client)
        if kind == b"X":
            return False
        connection = self._idle.get()
        server = socket.socket(fileno=_duplicate(connection))
        try:
            num_open = self._forward(kind, body, server)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    num_open += self._forward(*_read(client), server)
                if server in ready:
                    kind, body = _read(server)
                    client.sendall(_message(kind, body))
                    num_open -= kind == b"Z"
                    if kind == b"Z" and body == b"I" and not num_open:
                        return True
        except (OSError, EOFError):
            with suppress(OSError):
                server.sendall(_message(b"Q", b"ROLLBACK\0"))
                while _read(server)[0] != b"Z":
                    pass
            raise
        finally:
            server.close()
            self._idle.put(connection)

    def _forward(self, kind: bytes, body: bytes, server: socket.socket) -> int:
        """Send it on; how many answers that end with "ready" it asks for."""
        if kind == b"X":
            raise EOFError
        if kind in (b"Q", b"P"):
            self.statements.append(body)
        server.sendall(_message(kind, body))
        return int(kind in (b"Q", b"S"))


def _duplicate(connection: psycopg.Connection) -> int:
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:
        copy.setblocking(True)  # libpq's is the same socket, and is not used any more
        return copy.detach()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _read(peer: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(peer, 1)
    (length,) = struct.unpack("!i", _exactly(peer, 4))
    return kind, _exactly(peer, length - 4)


def _exactly(peer: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        part = peer.recv(number - len(data))
        if not part:
            raise EOFError
        data += part
    return data
