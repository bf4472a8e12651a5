"""Routes of the devices that pushes go to."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from fastapi import APIRouter, Query

from configs.contracts.errors import ConfigurationError
from configs.contracts.events import DeviceRegistered, DeviceRemoved
from configs.contracts.notifying import device_id
from serve_apps.fields import UUID_PATTERN, IdempotencyKey, Success, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.notifications.models import Device, DeviceBody, WebPushKey
from serve_apps.problems import SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/notifications/devices", tags=["notifications"])

POINT_BYTES = 65
"""An uncompressed point on P-256."""
SECRET_BYTES = 16


def _raw(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        return b""


def _check_subscription(body: DeviceBody, hosts: tuple[str, ...]) -> None:
    """A subscription names an address to which this platform will post: a known push service's, and nothing else.

    Raises Refused.
    """
    try:
        parts = urlsplit(body.token)
        port = parts.port
    except ValueError:
        raise Refused("invalid", fields=[{"field": "body.token", "message": "is not a URL"}]) from None
    host = parts.hostname or ""
    known = any(host == name or (name.startswith(".") and host.endswith(name)) for name in hosts)
    if parts.scheme != "https" or not known or parts.username is not None or (port not in (None, 443) and host != "localhost"):
        raise Refused("invalid", fields=[{"field": "body.token", "message": "is not the endpoint of a known push service"}])
    if len(_raw(body.p256dh or "")) != POINT_BYTES or len(_raw(body.auth or "")) != SECRET_BYTES:
        raise Refused("invalid", fields=[{"field": "body.p256dh", "message": "these are not the keys of a subscription"}])


@router.post(
    "", operation_id="registerDevice", status_code=201, response_model=Device,
    responses=errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict"),
)
async def register(body: DeviceBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Device:
    """Pushes go to this device from now on, and no longer to whoever it belonged to, until this session ends.

    Register at every start of the app. The ten devices that registered last are kept.
    """
    if body.platform == "webpush":
        _check_subscription(body, dependencies.settings.push.webpush_hosts)
    token = body.token.lower() if body.platform == "apns" else body.token
    payload = DeviceRegistered(
        device_id=device_id(body.platform, token), user_id=person.user_id, platform=body.platform, token=token,
        public_key=body.p256dh, auth_secret=body.auth, family_id=person.family_id,
    )
    await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="registerDevice", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    return Device(device_id=payload.device_id)


@router.get(
    "/webpush-key", operation_id="getWebPushKey", response_model=WebPushKey, responses=errors(*SIGNED_IN, "not_found")
)
async def webpush_key(person: Person, dependencies: Deps) -> WebPushKey:
    """What a browser subscribes with (`applicationServerKey`, RFC 8292); 404 while the platform has no key of its own."""
    pem = dependencies.settings.push.vapid_key_pem.get_secret_value()
    if not pem:
        raise Refused("not_found")
    return WebPushKey(public_key=public_point(pem))


@lru_cache(maxsize=1)
def public_point(pem: str) -> str:
    """The public half of a P-256 private key: its uncompressed point, base64url. Raises ConfigurationError."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except ValueError as error:
        raise ConfigurationError("push.vapid_key_pem cannot be used") from error
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).decode().rstrip("=")


@router.delete(
    "", operation_id="removeDevice", response_model=Success, responses=errors(*SIGNED_IN, "idempotency_conflict")
)
async def remove(
    device: Annotated[str, Query(alias="deviceId", pattern=UUID_PATTERN, description="`deviceId` of its registration")],
    person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None,
) -> Success:
    """One's own device gets no more pushes; a device that is somebody else's by now stays theirs."""
    payload = DeviceRemoved(device_id=device, user_id=person.user_id, reason="signed_out")
    await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="removeDevice", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, device),
    ))
    return Success()
