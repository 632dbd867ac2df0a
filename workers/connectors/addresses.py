"""Rules for outbound connections: by default, this machine, its network and its cloud cannot be called.

A name is resolved once, and the connection goes to the address that was checked. A name that would resolve
differently the second time (DNS rebinding) therefore cannot evade the check.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import httpx

from jobs.errors import PermanentError, TransientError
from jobs.sources import SourceRefusedError, WebPlace

Address = IPv4Address | IPv6Address

Resolve = Callable[[str, int], list[str]]
"""Function that resolves a host and port to addresses as text. Raises OSError."""

MAX_ADDRESSES = 4
"""Maximum number of addresses that are tried in turn for one request."""

METADATA = frozenset(
    IPv4Address(text) for text in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
"""Addresses at which clouds provide credentials: AWS, GCP, Azure and most others; Alibaba; Azure's agent;
Oracle."""

METADATA_NETWORKS = tuple(
    ipaddress.ip_network(text) for text in ("fd00:ec2::/32", "fd20:ce::/32", "fd00:c1::/32", "fd00:42::/32")
)
"""IPv6 networks in which clouds provide credentials: AWS, including its container agents, GCP, Oracle,
Scaleway."""

_EMBEDDING = tuple(
    ipaddress.ip_network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
"""Networks in which the last 32 bits are an IPv4 address: the compatible addresses of RFC 4291, the
translated ones of RFC 2765, and the prefixes of NAT64 (RFC 6052 and RFC 8215)."""

_LOCAL_TRANSLATION = ipaddress.ip_network("64:ff9b:1::/48")
"""Prefix for translators of a private network (RFC 8215): its addresses are not reachable over the internet.
"""

_PREFIX_LENGTHS = (32, 40, 48, 56, 64)
"""Prefix lengths that NAT64 translators use in addition to 96. The IPv4 address follows the prefix, but skips
bits 64 to 71 (RFC 6052, 2.2)."""

_ISATAP = (0x00005EFE, 0x02005EFE)
"""Values of bits 64 to 95 of an ISATAP address, whose last 32 bits are an IPv4 address, under any prefix (RFC
5214)."""


class AddressRefusedError(PermanentError):
    """A URL is invalid, or leads to an address that is not allowed."""

    code = "private_address"


class UnreachableError(TransientError):
    """A host currently has no address, or does not answer."""

    code = "unreachable"


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL and the checked addresses of its host."""

    url: httpx.URL
    addresses: tuple[Address, ...]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host according to the system's resolver.

    Like the C library, the resolver accepts notations such as 2130706433 and 0177.0.0.1, so that the check
    sees the address to which they lead.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressGuard:
    """Checks every address that one source or webhook connects to."""

    what: str
    """Kind of place, such as "feed" or "webhook"; error codes begin with it."""
    name: str
    """Name of the place in messages, which do not show its URL because it may contain a key."""
    allow_private: bool
    """Whether the place is allowed to be on this machine or its network."""
    resolver: Resolve = resolve

    def find_destination(self, text: str) -> Destination:
        """Check a URL, and return it with the addresses of its host.

        Raises AddressRefusedError (`<what>_private_address` or `<what>_url_invalid`) and UnreachableError.
        """
        try:
            url = httpx.URL(text)
            host = url.raw_host.decode("ascii")
        except (httpx.InvalidURL, UnicodeError, TypeError) as error:
            raise self._invalid("it cannot be read") from error
        if url.scheme not in ("http", "https") or not host:
            raise self._invalid("it must have the scheme http or https, and a host")
        if url.userinfo:
            raise self._invalid("it contains a user name or a password")
        port = url.port or (443 if url.scheme == "https" else 80)
        return Destination(url, self.addresses(host, port))

    def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """Return at most MAX_ADDRESSES addresses of a host after checking that all of them are allowed.

        Raises AddressRefusedError (`<what>_private_address`) and UnreachableError (`<what>_unreachable`).
        """
        try:
            texts = self.resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise UnreachableError(
                f"{self.name}: the host name {host} cannot be resolved: check its spelling and the DNS of "
                "this network",
                code=f"{self.what}_unreachable",
            ) from error
        addresses = tuple(ipaddress.ip_address(text.partition("%")[0]) for text in texts[:MAX_ADDRESSES])
        for address in addresses:
            if is_never_called(address) or not (self.allow_private or is_public(address)):
                raise AddressRefusedError(
                    f"{self.name}: {host} has the address {address}, which is not public: correct the URL"
                    + ("" if is_never_called(address) else ", or set allow_private if the host is yours"),
                    code=f"{self.what}_private_address",
                )
        return addresses

    def address_texts(self, host: str, port: int) -> list[str]:
        """Return the result of `addresses` as text, for clients that open connections themselves."""
        return [str(address) for address in self.addresses(host, port)]

    def _invalid(self, reason: str) -> AddressRefusedError:
        return AddressRefusedError(
            f"{self.name}: the {self.what}'s URL cannot be used: {reason}; write https://host/path",
            code=f"{self.what}_url_invalid",
        )


def _is_site_local(address: Address) -> bool:
    """Return whether an address is in fec0::/10, which RFC 3879 deprecates but some networks still route."""
    return isinstance(address, ipaddress.IPv6Address) and address.is_site_local


def is_public(address: Address) -> bool:
    """Return whether an address is public; if it embeds IPv4 addresses, these must be public.

    >>> is_public(ipaddress.ip_address("93.184.215.14")), is_public(ipaddress.ip_address("::ffff:10.0.0.1"))
    (True, False)
    """
    return address not in _LOCAL_TRANSLATION and all(
        each.is_global and not each.is_multicast and not each.is_reserved and not _is_site_local(each)
        for each in _embedded(address)
    )


def is_never_called(address: Address) -> bool:
    """Return whether an address is never allowed, because it is link-local, multicast, unspecified or
    cloud metadata.

    >>> [is_never_called(ipaddress.ip_address(text)) for text in ("fd00:ec2::254", "fd00::a9fe:a9fe", "::1")]
    [True, True, False]
    """
    if any(address in network for network in METADATA_NETWORKS):
        return True
    # Any network may have its own NAT64 prefix, so a metadata address is refused behind every prefix.
    # No real host has an address that ends in a metadata address.
    translated = _translated(address)
    if any(each in METADATA for each in translated):
        return True
    if address in _LOCAL_TRANSLATION and any(each.is_link_local for each in translated):
        return True
    return any(each.is_link_local or each.is_multicast or each.is_unspecified for each in _embedded(address))


def _translated(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses to which translators with each prefix length would map the address."""
    value = int(address)
    last = [IPv4Address(value & 0xFFFFFFFF)]
    if isinstance(address, IPv4Address):
        return last
    joined = (value >> 64) << 56 | value & (1 << 56) - 1
    return last + [IPv4Address(joined >> 88 - length & 0xFFFFFFFF) for length in _PREFIX_LENGTHS]


def _embedded(address: Address) -> list[Address]:
    """Return the IPv4 addresses to which a translator or a tunnel would map the address, or else the address.

    For ISATAP, return both.
    """
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    value = int(address)
    is_isatap = (value >> 32) & 0xFFFFFFFF in _ISATAP
    if value > 1 and (is_isatap or any(address in network for network in _EMBEDDING)):
        last = IPv4Address(value & 0xFFFFFFFF)
        return [address, last] if is_isatap else [last]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    return [address]


def shown(url: str) -> str:
    """Return the URL without parts that may be secret, for messages.

    >>> shown("https://me:pw@example.com/feed?key=1")
    'https://example.com/feed'
    """
    try:
        parsed = httpx.URL(url)
        return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))[:200]
    except (httpx.InvalidURL, TypeError):
        return url.partition("?")[0].rpartition("@")[2][:200]


def name_of(place: WebPlace, url: str) -> str:
    """Return the name by which messages refer to a place's URL.

    For a URL from a variable, the name consists of the variable, the scheme and the host, because the path
    may contain a key.

    >>> name_of(WebPlace(url_variable="NEWS_URL"), "https://me:pw@example.com:8443/key/feed?key=1")
    'NEWS_URL (https://example.com:8443)'
    """
    if place.url_variable is None:
        return shown(url)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return place.url_variable
    netloc = parsed.netloc.decode("ascii")
    return f"{place.url_variable} ({parsed.scheme}://{netloc})" if netloc else place.url_variable


def required_variable(name: str) -> str:
    """Return the value of an environment variable of this worker.

    Raises SourceRefusedError if it is not set.
    """
    value = os.environ.get(name)
    if not value:
        raise SourceRefusedError(
            f"the environment variable {name} is not set in the worker: set it to the source's URL and "
            "restart the workers",
            code="source_variable_missing",
        )
    return value
