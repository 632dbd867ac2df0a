"""Classifies errors of boto3: whether the same call may succeed later, and if not, what to change."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError, SSLError


class Permission(StrEnum):
    """A permission that a call needs. The value is its name in Amazon's policies."""

    GET = "s3:GetObject"
    PUT = "s3:PutObject"
    LIST = "s3:ListBucket"
    DELETE = "s3:DeleteObject"
    CREATE = "s3:CreateBucket"


PURPOSES = {
    Permission.GET: "read artifacts, statements and shared resources",
    Permission.PUT: "store artifacts, statements and shared resources",
    Permission.LIST: "list objects below a prefix, such as the documents of a source, the checkpoints of a "
    "training run, or the packs that a sweep looks at",
    Permission.DELETE: "delete the checkpoints of finished training runs, and packs that nothing references",
    Permission.CREATE: "create a missing bucket",
}
"""What each permission is used for. Messages quote it after "which is used to"."""

MISSING = frozenset({"404", "NoSuchKey", "NotFound"})

_PASSING_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestTimeout",
        "OperationAborted",
        "OperationTimedOut",
    }
)
_PASSING_STATUSES = frozenset({408, 425, 429})

_DENIED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden", "UnauthorizedAccess"})
_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "401", "Unauthorized"})
_TOKEN = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "ExpiredTokenException"})
_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "301", "307", "IllegalLocationConstraintException"}
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the server refuses a call, and what to change. Waiting helps only if the call has worked before."""

    code: str
    reason: str
    advice: str


def code_of(error: BaseException) -> str:
    """Return the error code that the server sent, or the HTTP status if the response has no body."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_denied(error: BaseException) -> bool:
    """Return whether access is denied. Without s3:ListBucket, servers also deny access to missing objects."""
    return code_of(error) in _DENIED


def refusal_of(error: BaseException, permission: Permission, variable: str) -> Refusal | None:
    """Return why the call is refused, or None if the error is temporary."""
    if isinstance(error, ClientError):
        return _refusal_of_answer(error, permission, variable)
    if isinstance(error, NoCredentialsError | CredentialRetrievalError):
        return Refusal(
            "store_keys_refused",
            "the URL contains no keys, and boto3 finds none in the environment, a profile, a container or "
            "an instance role",
            f"add keys to {variable}, or give this machine a role",
        )
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Refusal(
            "store_host_unknown", "its host name cannot be resolved", f"correct the host in {variable}"
        )
    if isinstance(error, SSLError):
        return Refusal(
            "store_certificate_refused",
            f"TLS fails: {str(causes[-1])[:300]}",
            f"give the authority's certificate with ?ca_bundle=FILE in {variable}, or correct the host or "
            "the scheme",
        )
    return None


def _refusal_of_answer(error: ClientError, permission: Permission, variable: str) -> Refusal | None:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500 or status in _PASSING_STATUSES or code in _PASSING_CODES:
        return None
    if code in _KEYS:
        return Refusal(
            "store_keys_refused",
            f"the server refuses the keys ({code})",
            f"correct access key and secret key in {variable}",
        )
    if code in _TOKEN:
        return Refusal(
            "store_keys_refused", f"the session token is not valid ({code})", f"renew the token in {variable}"
        )
    if code == "RequestTimeTooSkewed":
        return Refusal("store_clock_differs", "this machine's clock and the server's differ", "set the clock")
    if code in _REGION:
        region = _region_of(error)
        return Refusal(
            "store_region_differs",
            "the bucket is in " + (f"the region {region}" if region else "another region"),
            f"write ?region={region or 'NAME'} in {variable}",
        )
    if code == "NoSuchBucket":
        return Refusal("store_bucket_missing", "there is no such bucket", f"create it, or correct {variable}")
    if code in _DENIED:
        return Refusal(
            "store_permission_missing",
            f"the permission {permission} is missing, which is used to {PURPOSES[permission]}",
            f"grant it to the keys of {variable}",
        )
    return Refusal(
        "store_refused",
        f"the server refuses the request ({code or status})",
        f"check {variable} and the log of the server",
    )


def _region_of(error: ClientError) -> str | None:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    return str(region)[:40] if region else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, the root cause last. boto3 passes some causes as an argument."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        argument = getattr(current, "kwargs", {}).get("error")
        reason = getattr(current, "reason", None)
        following = (
            argument if isinstance(argument, BaseException) else current.__cause__ or current.__context__
        )
        current = reason if isinstance(reason, BaseException) else following
