"""TLS before a server that speaks none, such as the Valkey and the S3 server of the tests."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def tls_proxy(address: str, certificate: Path) -> Iterator[int]:
    """The port at which `host:port` answers over TLS until the block ends; the file holds the key, too."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = (server, context, (host, int(port)))
        threading.Thread(target=_accept, args=arguments, daemon=True).start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes accept()


def _accept(server: socket.socket, context: ssl.SSLContext, upstream: tuple[str, int]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, context, upstream), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, upstream: tuple[str, int]) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(client, server_side=True) as plain,
        socket.create_connection(upstream) as server,
    ):
        back = threading.Thread(target=_copy, args=(server, plain), daemon=True)
        back.start()
        _copy(plain, server)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
