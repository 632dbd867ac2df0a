"""Webhooks as defined by Standard Webhooks (github.com/standard-webhooks/standard-webhooks, spec 1.0)."""

from __future__ import annotations

import binascii
import os
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from jobs.errors import PermanentError, TransientError
from workers.connectors.addresses import AddressGuard, Resolve, name_of, resolve
from workers.connectors.http import exchange
from workers.delivery import WebhookTarget

TOTAL_SECONDS = 20.0
"""Time limit for a receiver to respond; the specification recommends 15 to 30 seconds."""


class WebhookRefusedError(PermanentError):
    """The receiver refuses the message, or is at an address to which nothing may be sent."""

    code = "webhook_refused"


class WebhookFailedError(TransientError):
    """The receiver could not accept the message now."""

    code = "webhook_failed"


def send_webhook(target: WebhookTarget, *, message_id: str, body: str, resolver: Resolve = resolve) -> None:
    """POST a signed message.

    A 2xx status accepts the message, a redirect or 410 refuses it, and any other status is a temporary
    failure. Raises WebhookRefusedError, WebhookFailedError, AddressRefusedError, UnreachableError.
    """
    url = _url(target)
    name = name_of(target, url)
    sent_at = datetime.now(UTC)
    signature = _signer(target).sign(msg_id=message_id, timestamp=sent_at, data=body)
    with exchange(
        "POST",
        url,
        AddressGuard(what="webhook", name=name, allow_private=target.allow_private, resolver=resolver),
        headers={
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": signature,
        },
        content=body.encode(),
        total_seconds=TOTAL_SECONDS,
    ) as response:
        status = response.status_code
    if 200 <= status < 300:
        return
    where = f"the webhook {target.name!r} at {name}"
    if status == httpx.codes.GONE:
        raise WebhookRefusedError(f"{where} no longer exists: remove this target", code="webhook_gone")
    if 300 <= status < 400:
        raise WebhookRefusedError(
            f"{where} redirects ({status}), and redirects are not followed: use the target URL",
            code="webhook_redirect",
        )
    raise WebhookFailedError(
        f"{where} responds with status {status}: check the log of the receiver", code="webhook_status"
    )


def _url(target: WebhookTarget) -> str:
    return target.url or _variable(target, str(target.url_variable), "URL", code="webhook_url_missing")


def _variable(target: WebhookTarget, variable: str, what: str, *, code: str) -> str:
    """Return the value of an environment variable.

    A missing variable is a temporary failure, because it may be set before the next attempt; no message is
    lost.
    """
    value = os.environ.get(variable)
    if not value:
        raise WebhookFailedError(
            f"the environment variable {variable} is not set in the process that sends webhooks: set it to "
            f"the {what} of the webhook {target.name!r} for `pressroom beat` or `pressroom up`, and restart "
            "that command",
            code=code,
        )
    return value


def _signer(target: WebhookTarget) -> Webhook:
    secret = _variable(target, target.secret_variable, "signing secret", code="webhook_secret_missing")
    try:
        return Webhook(secret)
    except (binascii.Error, ValueError, EmptyWebhookSecretError) as error:
        raise WebhookFailedError(
            f"the environment variable {target.secret_variable} does not contain a signing secret: its form "
            'is "whsec_" followed by base64',
            code="webhook_secret_invalid",
        ) from error
