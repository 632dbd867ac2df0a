"""A model hub on this machine: as much of its HTTP interface as a download of one repository asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def serve_hub(folder: Path, repository: str, revision: str) -> Iterator[tuple[str, list[str]]]:
    """Serve the folder's files under the repository's name; the endpoint and the paths that were fetched."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            files = sorted(each for each in folder.rglob("*") if each.is_file())
            sizes = [(str(each.relative_to(folder)), each.stat().st_size) for each in files]
            name = path.removeprefix(f"/{repository}/resolve/{revision}/")
            if path == f"/api/models/{repository}/tree/{revision}":
                entries = [
                    {"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes
                ]
                self._send(200, json.dumps(entries).encode(), with_body)
            elif path == f"/api/models/{repository}/revision/{revision}":
                siblings = [{"rfilename": name, "size": size} for name, size in sizes]
                info = {"id": repository, "sha": revision, "siblings": siblings}
                self._send(200, json.dumps(info).encode(), with_body)
            elif name in dict(sizes):
                if with_body:
                    fetched.append(name)
                self._send(200, (folder / name).read_bytes(), with_body)
            else:
                self._send(404, b"{}", with_body)

        def _send(self, status: int, body: bytes, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", revision)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
