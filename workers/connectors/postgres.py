"""A Postgres that a source names, to which connections are made only at checked addresses."""

from __future__ import annotations

import os
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from jobs.sources import SourceRefusedError
from workers.connectors.addresses import Resolve, checked_addresses, resolve

DEFAULT_PORT = "5432"


def guarded_parameters(
    url: str, name: str, *, allow_private: bool, resolver: Resolve = resolve
) -> dict[str, Any]:
    """Return psycopg's parameters with the checked addresses of each host; certificates are for its name.

    `name` begins the messages. Raises SourceRefusedError, AddressRefusedError and UnreachableError.
    """
    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise _refused(name, "has no URL that libpq can read: percent-encode the password") from None
    if "service" in parameters:
        raise _refused(name, "names a service, whose host cannot be checked: write host and port")
    hosts = str(parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    numeric = str(parameters.get("hostaddr", "")).split(",") if parameters.get("hostaddr") else hosts
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if not len(hosts) == len(numeric) == len(ports):
        raise _refused(name, "names another number of hosts than of addresses or ports")
    rows: list[tuple[str, str, str]] = []
    for host, target, port in zip(hosts, numeric, ports, strict=True):
        if not target or target.startswith(("/", "@")):  # a socket on this machine
            if not allow_private:
                raise _refused(name, "is on this machine: set allow_private for it if it is yours")
            rows.append((host, "", port))
            continue
        number = int(port or DEFAULT_PORT) if (port or DEFAULT_PORT).isdecimal() else 0
        addresses = checked_addresses(
            target, number, what="query", name=name, allow_private=allow_private, resolver=resolver
        )
        rows.extend((host or str(address), str(address), port) for address in addresses)
    host, hostaddr, port = (",".join(part) for part in zip(*rows, strict=True))
    return parameters | {"host": host, "port": port} | ({"hostaddr": hostaddr} if hostaddr.strip(",") else {})


def _refused(name: str, reason: str) -> SourceRefusedError:
    return SourceRefusedError(f"the {name} {reason}", code="source_url_invalid")
