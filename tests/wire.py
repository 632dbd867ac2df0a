"""A server that listens on the wire: keeps what each client sends first, and never answers as it should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

TLS_HANDSHAKE = b"\x16\x03"
"""A TLS record of type 22, of any version since TLS 1.0 (RFC 8446, section 5.1)."""

POSTGRES_TLS_REQUEST = bytes.fromhex("0000000804d2162f")
"""SSLRequest: eight bytes that ask whether the server speaks TLS; nothing of the client's is in them."""


@dataclass(slots=True)
class Wire:
    """What was sent, connection by connection."""

    port: int
    sent: list[bytes] = field(default_factory=list)

    def heard(self, word: str) -> bool:
        """Whether any connection carried the word in plain sight."""
        return any(word.encode() in sent for sent in self.sent)


@contextmanager
def wire(*, speaks_tls: bool = True) -> Iterator[Wire]:
    """Listen until the block ends. Postgres asks for TLS first: `speaks_tls` is the answer to that."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        tap = Wire(server.getsockname()[1])
        thread = threading.Thread(target=_listen, args=(server, tap, speaks_tls), daemon=True)
        thread.start()
        yield tap
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes accept()
        thread.join()


def _listen(server: socket.socket, tap: Wire, speaks_tls: bool) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client, suppress(OSError):
            client.settimeout(2)
            first = client.recv(4096)
            if first == POSTGRES_TLS_REQUEST:
                client.sendall(b"S" if speaks_tls else b"N")
                first = client.recv(4096)
            tap.sent.append(first)
