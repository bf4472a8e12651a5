"""Routes of what a person wants to be told of."""

from __future__ import annotations

from fastapi import APIRouter

from configs.contracts.events import NotificationPreferencesChanged
from configs.contracts.notifying import DEFAULTS, KINDS, Preferences, read_preferences
from configs.contracts.read_model import record_key
from serve_apps.dependencies import Dependencies
from serve_apps.fields import IdempotencyKey, body_digest
from serve_apps.identity import Deps, Person
from serve_apps.notifications.models import Channels, NotificationPreferences, PreferencesBody, QuietHours
from serve_apps.problems import SIGNED_IN, WITH_BODY, errors
from serve_apps.recording import recorded, to_the_end

router = APIRouter(prefix="/notifications/preferences", tags=["notifications"])


async def _preferences(dependencies: Dependencies, user_id: str) -> Preferences:
    await dependencies.people.own_record(user_id)
    (value,) = await dependencies.reads.read(("GET", record_key(user_id)))
    return DEFAULTS if value is None else read_preferences(value)


def _shown(found: Preferences) -> NotificationPreferences:
    start, _, end = found.quiet_hours.partition("-")
    return NotificationPreferences(
        kinds={
            ("superLike" if kind == "super_like" else kind): Channels(in_app=found.wants(kind, "list"), push=found.wants(kind, "push"))
            for kind in KINDS
        },
        quiet_hours=QuietHours(start=start, end=end) if end else None,
        time_zone=found.time_zone or "UTC",
        show_content=found.show_content,
        mail_reminders=found.mail_reminders,
    )


@router.get(
    "", operation_id="getNotificationPreferences", response_model=NotificationPreferences, responses=errors(*SIGNED_IN)
)
async def get(person: Person, dependencies: Deps) -> NotificationPreferences:
    """What one is told of, by kind and channel."""
    return _shown(await _preferences(dependencies, person.user_id))


@router.put(
    "", operation_id="updateNotificationPreferences", response_model=NotificationPreferences,
    responses=errors(*SIGNED_IN, *WITH_BODY, "idempotency_conflict"),
)
async def update(
    body: PreferencesBody, person: Person, dependencies: Deps, idempotency_key: IdempotencyKey = None
) -> NotificationPreferences:
    """Changes the fields that are sent and answers the preferences as they are now."""
    kinds, hours = body.kinds, body.quiet_hours
    payload = NotificationPreferencesChanged(
        user_id=person.user_id,
        push_match=kinds.match.push, push_message=kinds.message.push, push_like=kinds.like.push,
        push_super_like=kinds.super_like.push, push_system=kinds.system.push, list_match=kinds.match.in_app,
        list_like=kinds.like.in_app, list_super_like=kinds.super_like.in_app,
        push_subscriber=kinds.subscriber.push, push_post=kinds.post.push, push_tip=kinds.tip.push,
        push_purchase=kinds.purchase.push, list_subscriber=kinds.subscriber.in_app, list_post=kinds.post.in_app,
        list_tip=kinds.tip.in_app, list_purchase=kinds.purchase.in_app,
        quiet_hours=None if hours is None else "" if hours.start == hours.end else f"{hours.start}-{hours.end}",
        time_zone=body.time_zone, show_content=body.show_content, mail_reminders=body.mail_reminders,
    )
    await to_the_end(recorded(
        dependencies, person.user_id, payload, scope="updateNotificationPreferences", idempotency_key=idempotency_key,
        body_digest=body_digest(dependencies.seals.key, body),
    ))
    return _shown(await _preferences(dependencies, person.user_id))
