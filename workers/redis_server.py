"""A Redis or Valkey server named by a URL, parsed in one place so that every client reads it the same way."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from redis import ConnectionPool, Redis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from jobs.errors import ConfigurationError

DEFAULT_PORT = 6379

TIMEOUT_SECONDS = 5.0
"""Time-out for connecting and for an answer. Valkey answers in microseconds, or in 0.3 s from another
continent."""

_DATABASE = re.compile(r"0*([0-9]{1,9})")
"""Pattern of a database's number. A server has sixteen databases, unless it is configured with more."""

Addresses = Callable[[str, int], Sequence[str]]
"""Maps host and port to the addresses that may be connected to. Raises PressroomError."""

_SCHEMES = {
    "redis": "plain",
    "valkey": "plain",
    "rediss": "tls",
    "valkeys": "tls",
    "unix": "socket",
    "redis+socket": "socket",
    "valkey+socket": "socket",
}

_CERTIFICATE_REQUIREMENTS = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
"""The values of `ssl_cert_reqs` as in redis-py; those of Celery (CERT_REQUIRED ...) mean the same."""

_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname", "ssl_password")
_OPTIONS = ("db", "username", "password", *_TLS_OPTIONS)

_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class RedisUrlError(ConfigurationError):
    """A Redis or Valkey URL cannot be used, or its meaning would be ambiguous."""

    code = "redis_url_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """The location of a server, the credentials, and the protection of the connection."""

    host: str = ""
    port: int = DEFAULT_PORT
    socket_path: str | None = None
    """Path of the socket of a server on this machine; host and port are then ignored."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    """Arguments of redis-py's SSLConnection; None for a connection without TLS."""

    @classmethod
    def from_url(cls, url: str, *, variable: str = "PRESSROOM_REDIS_URL") -> RedisServer:
        """Parse the URL of a server, with or without TLS, or of a Unix socket.

        The forms are `redis[s]://[user]:password@host:port/number[?ssl_...]` and
        `unix://[user]:password@/path?db=number`. `variable` names the URL in messages, which never quote it.
        Raises RedisUrlError.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            reason = "it is not a URL: percent-encode special characters of the password"
            raise _error(variable, reason) from None
        transport = _SCHEMES.get(parts.scheme)
        if transport is None:
            raise _error(variable, "its scheme must be redis, rediss (with TLS), valkey, valkeys or unix")
        if parts.fragment:
            raise _error(variable, "a '#' must be written as %23")
        options = dict(pairs)
        if len(options) < len(pairs):
            raise _error(variable, "it contains an option twice")
        _check_options(variable, options, transport)
        path = unquote(parts.path)
        if transport == "socket" and (parts.hostname or not path.startswith("/")):
            raise _error(
                variable, "a socket is written with three slashes and its path, as in unix:///run/valkey.sock"
            )
        if transport != "socket" and not parts.hostname:
            raise _error(variable, "it names no host")
        return cls(
            host="" if transport == "socket" else unquote(parts.hostname or ""),
            port=port or DEFAULT_PORT,
            socket_path=path if transport == "socket" else None,
            username=unquote(parts.username or "") or options.get("username"),
            password=unquote(parts.password or "") or options.get("password"),
            database=_database(variable, options.get("db"), "" if transport == "socket" else path),
            tls=_tls(variable, options) if transport == "tls" else None,
        )

    @property
    def location(self) -> str:
        """Return the location for display, without secrets.

        >>> RedisServer.from_url("REDISS://:secret@[::1]/2").location
        'rediss://[::1]:6379/2'
        """
        if self.socket_path is not None:
            return f"unix://{self.socket_path}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'redis' if self.tls is None else 'rediss'}://{host}:{self.port}/{self.database}"

    @property
    def warning(self) -> str | None:
        """Return what is weak about the connection although TLS was requested, or None."""
        if self.tls is not None and self.tls["ssl_cert_reqs"] != ssl.CERT_REQUIRED:
            return (
                f"{self.location}: its certificate is not verified (ssl_cert_reqs), so any server that "
                "answers receives the password"
            )
        if self.tls is not None and not self.tls["ssl_check_hostname"]:
            return f"{self.location}: the name in the certificate is not compared (ssl_check_hostname=false)"
        return None

    @property
    def connection_class(self) -> type[Connection] | type[UnixDomainSocketConnection]:
        """Return the redis-py connection class that every client uses."""
        if self.socket_path is not None:
            return UnixDomainSocketConnection
        return Connection if self.tls is None else SSLConnection

    def parameters(self) -> dict[str, Any]:
        """Return the arguments for the connection class, except time-outs."""
        access = {"username": self.username, "password": self.password, "db": self.database}
        if self.socket_path is not None:
            return {"path": self.socket_path, **access}
        return {"host": self.host, "port": self.port, **access, **(self.tls or {})}

    def client(
        self, *, database: int | None = None, addresses: Addresses | None = None, **options: Any
    ) -> Redis:
        """Return a client with its own connections to this or another database; it does not connect yet.

        With `addresses`, connections go only to the addresses that it returns; the certificate is still
        compared with the host's name.
        """
        parameters = self.parameters() | ({} if database is None else {"db": database})
        timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
        kind: Any = self.connection_class
        if addresses is not None and self.socket_path is None:
            kind = _GuardedConnection if self.tls is None else _GuardedSSLConnection
            parameters["addresses"] = addresses
        return Redis.from_pool(ConnectionPool(connection_class=kind, **(timeouts | parameters | options)))

    def broker_url(self) -> str:
        """Return the URL that Celery shows and uses to identify the broker; it connects with `parameters`."""
        user = quote(self.username or "", safe="")
        access = f"{user}:{quote(self.password, safe='')}@" if self.password else f"{user}@" if user else ""
        if self.socket_path is not None:
            return f"redis://{access}localhost/{self.database}"
        scheme, _, rest = self.location.partition("://")
        return f"{scheme}://{access}{rest}"


class _GuardedConnection(Connection):
    """Connects to one of the addresses allowed for its host, trying one after another."""

    def __init__(self, *, addresses: Addresses, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._addresses = addresses

    def _connect(self) -> Any:
        host = self.host
        error: OSError | None = None
        try:
            for address in self._addresses(host, self.port):
                self.host = address
                try:
                    return super()._connect()  # type: ignore[no-untyped-call]
                except OSError as failure:
                    error = failure
        finally:
            self.host = host
        raise error or OSError(f"the host name {host} cannot be resolved")


class _GuardedSSLConnection(SSLConnection, _GuardedConnection):
    """A guarded connection with TLS, whose certificate must have the host's name and not the address."""


def _error(variable: str, reason: str) -> RedisUrlError:
    return RedisUrlError(
        f"the URL in {variable} cannot be used: {reason}. Its form is redis://:password@host:port/number, "
        "with TLS rediss://:password@host:port/number"
    )


def _check_options(variable: str, options: Mapping[str, str], transport: str) -> None:
    for name, value in options.items():
        if not value:
            raise _error(variable, f"its option {name[:40]!r} is empty")
        if name not in _OPTIONS:
            raise _error(variable, f"its option {name[:40]!r} is unknown (known are {', '.join(_OPTIONS)})")
        if name in _TLS_OPTIONS and transport != "tls":
            raise _error(
                variable, f"{name} requires TLS, but the scheme is for a plain connection: write rediss://"
            )


def _database(variable: str, option: str | None, path: str) -> int:
    number = path.strip("/")
    if option is not None and number not in ("", option):
        raise _error(variable, "it names two databases: one after the host, and another one with db=")
    text = number if option is None else option
    if not text:
        return 0
    match = _DATABASE.fullmatch(text)
    if match is None:
        raise _error(variable, "what follows the host must be the number of a database")
    return int(match[1])


def _tls(variable: str, options: Mapping[str, str]) -> dict[str, Any]:
    requirement = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if requirement not in _CERTIFICATE_REQUIREMENTS:
        raise _error(variable, f"ssl_cert_reqs must be one of {', '.join(_CERTIFICATE_REQUIREMENTS)}")
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in _TRUE | _FALSE:
        raise _error(variable, "ssl_check_hostname must be true or false")
    files = {name: options[name] for name in _TLS_FILES if name in options}
    for name, path in files.items():
        if not Path(path).exists():
            raise _error(variable, f"the file {path[:200]!r}, which {name} names, does not exist")
    return {
        "ssl_cert_reqs": _CERTIFICATE_REQUIREMENTS[requirement],
        "ssl_check_hostname": check in _TRUE,
        **files,
        **({"ssl_password": options["ssl_password"]} if "ssl_password" in options else {}),
    }
