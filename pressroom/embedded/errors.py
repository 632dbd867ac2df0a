"""Errors of services that run as child processes."""

from __future__ import annotations

from jobs.errors import ConfigurationError


class ServiceStartError(ConfigurationError):
    """A service did not start; the message ends with the tail of its log."""

    code = "service_start_failed"


class HomeLockedError(ConfigurationError):
    """Another process runs the services of this home folder."""

    code = "home_locked"


class NotReadyError(Exception):
    """A service runs but does not answer yet; this error never leaves the package."""


class HomeUnsafeError(ConfigurationError):
    """The home folder belongs to another user, or another user may write to it."""

    code = "home_unsafe"
