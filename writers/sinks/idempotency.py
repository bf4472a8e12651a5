"""Any event with an idempotency key -> idempotency_keys: what an owner was already asked for.

Swipes keep their keys in their own rows. Keys are pruned after a day (``writers.pruning``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from configs.contracts.events import (
    AccountRegistered,
    AddressChangeRequested,
    AgeAssessed,
    CommentDeleted,
    ConsentChanged,
    ContentCommented,
    ContentLiked,
    ContentUnliked,
    DeviceRegistered,
    DeviceRemoved,
    Followed,
    LocationChanged,
    NotificationPreferencesChanged,
    NotificationRead,
    NotificationSent,
    NotificationsRead,
    Payload,
    PaymentPartiesChanged,
    PreferencesChanged,
    ProfileChanged,
    PromoCodeChanged,
    TierChanged,
    Unfollowed,
    UserBlocked,
    UserReported,
    UserUnblocked,
)
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, hash_as_id

UPSERT = """
INSERT INTO idempotency_keys AS stored (owner, key, body_digest, event_id, created_at)
SELECT * FROM unnest(%s, %s, %s, %s, %s)
ON CONFLICT (owner, key) DO UPDATE
SET body_digest = excluded.body_digest, event_id = excluded.event_id, created_at = excluded.created_at
WHERE (stored.created_at, stored.event_id) < (excluded.created_at, excluded.event_id)
"""
"""Of two requests under one key the newer stays, as in the shards' memory: their topics share no order."""


def owner_of(payload: Payload) -> str:
    """The person, or the address, whose shard decided the request; as the text of a 16-byte value."""
    if isinstance(payload, AccountRegistered | AddressChangeRequested):
        return hash_as_id(payload.email_hash)
    if isinstance(payload, TierChanged | PromoCodeChanged):
        return payload.creator_id
    return str(payload.reporter_id if isinstance(payload, UserReported) else payload.user_id)  # type: ignore[attr-defined]


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    newest: dict[tuple[str, str], tuple[datetime, str, str]] = {}
    for event, _, _ in facts:
        payload = event.payload
        if payload.idempotency_key is None:
            continue
        name = (owner_of(payload), payload.idempotency_key)
        request = (event.occurred_at, event.event_id, payload.body_digest or "")
        if name not in newest or newest[name][:2] < request[:2]:
            newest[name] = request
    if newest:
        cur.execute(
            UPSERT,
            (
                columns.uuids([owner for owner, _ in newest]),
                columns.texts(key for _, key in newest),
                columns.texts(digest for _, _, digest in newest.values()),
                columns.uuids([event_id for _, event_id, _ in newest.values()]),
                columns.timestamps([at for at, _, _ in newest.values()]),
            ),
        )
    return len(newest)


SINK = Sink(
    "idempotency",
    (
        AccountRegistered, AddressChangeRequested, ProfileChanged, PreferencesChanged, LocationChanged, UserBlocked, UserUnblocked,
        UserReported, NotificationSent, NotificationRead, NotificationsRead, NotificationPreferencesChanged,
        DeviceRegistered, DeviceRemoved, ContentLiked, ContentUnliked, ContentCommented, CommentDeleted, Followed,
        Unfollowed, TierChanged, PromoCodeChanged, PaymentPartiesChanged, AgeAssessed, ConsentChanged,
    ),
    write,
)
