"""Routes of the list of notifications."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import msgspec
from fastapi import APIRouter

from configs.contracts import changes
from configs.contracts.events import NotificationRead, NotificationSent, NotificationsRead
from configs.contracts.read_model import (
    MARKER,
    NotificationEntry,
    listing_keys,
    put_notification,
    read_versioned,
    unread_key,
)
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN, IdempotencyKey, NotificationIdPath, Success, body_digest
from serve_apps.identity import Deps, Person, Service
from serve_apps.notifications.models import Notification, Notifications, SendBody, Sent
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/notifications", tags=["notifications"])

_ENTRIES = msgspec.json.Decoder(NotificationEntry)
UUID_TEXT = re.compile(UUID_PATTERN)


@router.post(
    "/send", operation_id="sendNotification", status_code=201, response_model=Sent,
    responses=errors(*EVERYWHERE, *WITH_BODY, "unauthenticated", "not_found", "read_model_unknown", "idempotency_conflict"),
)
async def send(body: SendBody, service: Service, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Sent:
    """Sends a person a notification, on behalf of a service (token with audience `internal`).

    It stands in the list at once, and is pushed when no device acknowledges it and the person's preferences allow it.
    """
    record = (await dependencies.people.records((body.user_id,))).get(body.user_id)
    if record is None or not record.exists:
        raise Refused("not_found")
    payload = NotificationSent(
        notification_id="", user_id=body.user_id, kind=body.type, title=body.title, body=body.body, data=body.data
    )
    return await to_the_end(_sent(dependencies, payload, f"sendNotification {service}", idempotency_key, body))


async def _sent(dependencies: Dependencies, payload: NotificationSent, scope: str, key: str | None, body: SendBody) -> Sent:
    now = datetime.now(UTC)
    answer = await recorded(
        dependencies, payload.user_id, payload, scope=scope, idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, body),
    )
    if isinstance(answer.payload, NotificationSent):
        await dependencies.write_through.apply(*changes.notified(answer.payload, now, answer.version))
    return Sent(notification_id=answer.event_id)


@router.get(
    "/list", operation_id="listNotifications", response_model=Notifications, responses=errors(*SIGNED_IN, "cursor_invalid")
)
async def list_notifications(person: Person, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None) -> Notifications:
    """The newest 500 notifications, newest first, and how many of them are unread.

    Those about somebody who is blocked, blocks the person or is not active are left out, of a page, which is shorter then,
    and of the count.
    """
    page, unread = await asyncio.gather(
        dependencies.listings.page("note", person.user_id, limit, cursor), _unread(dependencies, person.user_id)
    )
    listed = [_ENTRIES.decode(value) for _, value in page.entries]
    named = {entry.notification_id: who for entry in (*listed, *unread) if (who := _about(entry, person.user_id)) is not None}
    seen = await dependencies.people.unblocked(person.user_id, sorted(set(named.values())))
    hidden = {name for name, who in named.items() if who not in seen}
    return Notifications(
        notifications=[
            Notification(
                notification_id=entry.notification_id, type=entry.kind, title=entry.title, body=entry.body,
                data=entry.data, created_at=datetime.fromisoformat(entry.created_at), read=entry.read,
            )
            for entry in listed if entry.notification_id not in hidden
        ],
        unread_count=sum(entry.notification_id not in hidden for entry in unread),
        next_cursor=page.next_cursor,
    )


async def _unread(dependencies: Dependencies, user_id: str) -> list[NotificationEntry]:
    """The unread ones among the newest 500, in two round trips at most."""
    entries = listing_keys("note", user_id)[1]
    names, _ = await dependencies.people.sets(
        user_id, ("SMEMBERS", unread_key(user_id)), ("HMGET", entries, MARKER), marked=(1,)
    )
    if not names:
        return []
    (values,) = await dependencies.reads.read(("HMGET", entries, *names))
    found = [_ENTRIES.decode(read_versioned(value)[1]) for value in values if value is not None]
    return [entry for entry in found if not entry.read]


def _about(entry: NotificationEntry, user_id: str) -> str | None:
    """The other person whom a notification of ``user_id``'s names."""
    who = entry.data.get("userId", "")
    return who if who != user_id and UUID_TEXT.match(who) else None


@router.post(
    "/read/{id}", operation_id="readNotification", response_model=Success,
    responses=errors(*SIGNED_IN, "not_found", "idempotency_conflict"),
)
async def read(
    notification_id: NotificationIdPath, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> Success:
    """Marks one of one's notifications as read; marking it again changes nothing."""
    order, entries = listing_keys("note", person.user_id)
    (_, value), score = await dependencies.people.sets(
        person.user_id, ("HMGET", entries, MARKER, notification_id), ("ZSCORE", order, notification_id), marked=(0,)
    )
    if value is None or score is None:
        raise Refused("not_found")
    entry = _ENTRIES.decode(read_versioned(value)[1])
    if not entry.read:
        await to_the_end(_read(dependencies, person.user_id, entry, int(float(score)), idempotency_key))
    return Success()


async def _read(dependencies: Dependencies, user_id: str, entry: NotificationEntry, at_ms: int, key: str | None) -> None:
    answer = await recorded(
        dependencies, user_id, NotificationRead(notification_id=entry.notification_id, user_id=user_id),
        scope="readNotification", idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, entry.notification_id),
    )
    if answer.payload is not None:
        seen = msgspec.structs.replace(entry, read=True)
        await dependencies.write_through.apply(put_notification(user_id, seen, version=answer.version, at_ms=at_ms))


@router.post(
    "/read-all", operation_id="readAllNotifications", response_model=Success,
    responses=errors(*SIGNED_IN, "idempotency_conflict"),
)
async def read_all(person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Success:
    """Marks everything that was sent before this request as read; without anything unread it changes nothing."""
    _, entries = listing_keys("note", person.user_id)
    unread, _ = await dependencies.people.sets(
        person.user_id, ("SMEMBERS", unread_key(person.user_id)), ("HMGET", entries, MARKER), marked=(1,)
    )
    if unread:
        await to_the_end(_read_all(dependencies, person.user_id, sorted(unread), idempotency_key))
    return Success()


async def _read_all(dependencies: Dependencies, user_id: str, unread: list[bytes], key: str | None) -> None:
    answer = await recorded(
        dependencies, user_id, NotificationsRead(user_id=user_id), scope="readAllNotifications", idempotency_key=key,
        body_digest=body_digest(dependencies.seals.key, ""),
    )
    if answer.payload is None:
        return
    order, entries = listing_keys("note", user_id)
    values, scores = await dependencies.reads.read(("HMGET", entries, *unread), ("ZMSCORE", order, *unread))
    await dependencies.write_through.apply(*(
        put_notification(
            user_id, msgspec.structs.replace(_ENTRIES.decode(read_versioned(value)[1]), read=True),
            version=answer.version, at_ms=int(float(score)),
        )
        for value, score in zip(values, scores, strict=True)
        if value is not None and score is not None and read_versioned(value)[0] < answer.version
    ))
