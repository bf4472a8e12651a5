"""Routes of notifications."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter
from pydantic import AfterValidator, Field, StrictStr

from configs.contracts import changes
from configs.contracts.events import NotificationRead, NotificationSent
from configs.contracts.read_model import MARKER, NotificationEntry, listing_keys, put_entry, read_versioned
from serve_apps.dependencies import Dependencies
from serve_apps.fields import Answer, Body, IdempotencyKey, NotificationIdPath, Success, Text, UserIdText, body_digest
from serve_apps.identity import Deps, Person, Service
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import EVERYWHERE, SIGNED_IN, WITH_BODY, Refused, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/notifications", tags=["notifications"])

_ENTRIES = msgspec.json.Decoder(NotificationEntry)


def _few(data: dict[str, str]) -> dict[str, str]:
    if len(data) > 20:
        raise ValueError("must have at most 20 members")
    return data


Data = Annotated[
    dict[Annotated[Text, Field(min_length=1, max_length=64)], Annotated[Text, Field(max_length=500)]], AfterValidator(_few)
]


class SendBody(Body):
    user_id: UserIdText
    type: Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
    title: Annotated[Text, Field(min_length=1, max_length=200)]
    body: Annotated[Text, Field(max_length=2_000)] | None = None
    data: Data = Field(default_factory=dict, max_length=20)


class Sent(Answer):
    notification_id: str


class Notification(Answer):
    notification_id: str
    type: str
    title: str
    body: str | None
    data: dict[str, str]
    created_at: datetime
    read: bool


class Notifications(Answer):
    notifications: list[Notification]
    next_cursor: str | None = None


@router.post(
    "/send", operation_id="sendNotification", status_code=201, response_model=Sent,
    responses=errors(*EVERYWHERE, *WITH_BODY, "unauthenticated", "not_found", "read_model_unknown", "idempotency_conflict"),
)
async def send(body: SendBody, service: Service, dependencies: Deps, idempotency_key: IdempotencyKey = None) -> Sent:
    """Sends a person a notification, on behalf of a service (token with audience `internal`)."""
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
    """The newest 500 notifications, newest first."""
    page = await dependencies.listings.page("note", person.user_id, limit, cursor)
    return Notifications(
        notifications=[
            Notification(
                notification_id=entry.notification_id, type=entry.kind, title=entry.title, body=entry.body,
                data=entry.data, created_at=datetime.fromisoformat(entry.created_at), read=entry.read,
            )
            for entry in (_ENTRIES.decode(value) for _, value in page.entries)
        ],
        next_cursor=page.next_cursor,
    )


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
        await dependencies.write_through.apply(
            put_entry("note", user_id, entry.notification_id, seen, version=answer.version, at_ms=at_ms)
        )
