"""device_registered, device_removed -> device_tokens: each device with its one owner, whatever is repeated or late."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from configs.contracts.events import DeviceRegistered, DeviceRemoved
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

READ = """
SELECT id::text, user_id::text, platform, token, public_key, auth_secret, registration::text, registered_at, removed_at,
       version, family_id::text
FROM device_tokens WHERE id = ANY(%s) ORDER BY id FOR UPDATE
"""
WRITE = """
INSERT INTO device_tokens
    (id, user_id, platform, token, public_key, auth_secret, registration, registered_at, removed_at, version, family_id)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
SET user_id = excluded.user_id, platform = excluded.platform, token = excluded.token,
    public_key = excluded.public_key, auth_secret = excluded.auth_secret, registration = excluded.registration,
    registered_at = excluded.registered_at, removed_at = excluded.removed_at, version = excluded.version,
    family_id = excluded.family_id
"""


@dataclass(frozen=True, slots=True)
class Device:
    """One row. A removed device (``removed_at``) has lost its token and keys."""

    device_id: str
    user_id: str
    platform: str
    token: str
    public_key: str | None
    auth_secret: str | None
    registration: str
    registered_at: datetime
    removed_at: datetime | None
    version: int
    family_id: str | None = None
    """The session that registered it."""


def after(device: Device | None, fact: Fact) -> Device | None:
    """The device once the fact has been taken in. The newest registration owns it; only its owner's removal counts."""
    event, payload = fact.event, fact.event.payload
    if device is not None and fact.version <= device.version:
        return device
    if isinstance(payload, DeviceRegistered):
        return Device(
            payload.device_id, payload.user_id, payload.platform, payload.token, payload.public_key,
            payload.auth_secret, event.event_id, event.occurred_at, None, fact.version, payload.family_id,
        )
    assert isinstance(payload, DeviceRemoved)
    if (
        device is None or device.removed_at is not None or device.user_id != payload.user_id
        or payload.registration not in (None, device.registration)
    ):
        return device
    return Device(
        device.device_id, device.user_id, device.platform, "", None, None, device.registration, device.registered_at,
        event.occurred_at, fact.version, device.family_id,
    )


def fold(stored: Iterable[Device], facts: Iterable[Fact]) -> list[Device]:
    """The devices that the facts (in log order) have changed."""
    before = {device.device_id: device for device in stored}
    devices: dict[str, Device | None] = dict(before)
    for fact in facts:
        name = fact.event.payload.device_id
        devices[name] = after(devices.get(name), fact)
    return [device for name, device in devices.items() if device is not None and device is not before.get(name)]


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    ids = sorted({fact.event.payload.device_id for fact in facts})
    changed = fold([Device(*row) for row in cur.execute(READ, (columns.uuids(ids),)).fetchall()], facts)
    if changed:
        cur.execute(
            WRITE,
            (
                columns.uuids([device.device_id for device in changed]),
                columns.uuids([device.user_id for device in changed]),
                columns.texts(device.platform for device in changed),
                columns.texts(device.token for device in changed),
                columns.texts(device.public_key for device in changed),
                columns.texts(device.auth_secret for device in changed),
                columns.uuids([device.registration for device in changed]),
                columns.timestamps([device.registered_at for device in changed]),
                columns.timestamps([device.removed_at for device in changed]),
                columns.bigints([device.version for device in changed]),
                columns.uuids([device.family_id for device in changed]),
            ),
        )
    return len(changed)


SINK = Sink("devices", (DeviceRegistered, DeviceRemoved), write)
