"""Events as operations on the read model: the API's write-through and the writers' projections apply the same ones.

Both know the version of the event, so whichever of the two comes later changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from configs.contracts.conversations import (
    StoredMessage,
    mark_change,
    match_change,
    open_conversation,
    put_change,
    put_heard,
    put_mark,
    put_message,
)
from configs.contracts.events import (
    AgeAssessed,
    ConsentChanged,
    LocationChanged,
    MatchEnd,
    NotificationPreferencesChanged,
    NotificationSent,
    Payload,
    PaymentPartiesChanged,
    PreferencesChanged,
    ProfileChanged,
    Role,
    StandingChanged,
    UserBlocked,
    UserErased,
    UserUnblocked,
    WasActive,
)
from configs.contracts.ids import match_id
from configs.contracts.parties import CUSTOMER
from configs.contracts.read_model import (
    Credential,
    Listing,
    MatchEntry,
    NotificationEntry,
    Operation,
    erased_fields,
    forget_person,
    open_person,
    put_consent,
    put_credential,
    put_entry,
    put_notification,
    put_record,
    put_relation,
)
from configs.contracts.record_scripts import ERASED_VERSION

_PROFILE: Final = (("display_name", "displayName"), ("bio", "bio"), ("gender", "gender"))
_PREFERENCES: Final = (
    ("age_min", "ageMin"), ("age_max", "ageMax"), ("max_distance_km", "maxDistanceKm"), ("roles", "roles"),
    ("genders", "genders"), ("hide_distance", "hideDistance"), ("discoverable", "discoverable"),
)
_NOTIFYING: Final = (
    ("push_match", "pushMatch"), ("push_message", "pushMessage"), ("push_like", "pushLike"),
    ("push_super_like", "pushSuperLike"), ("push_system", "pushSystem"), ("list_match", "listMatch"),
    ("list_like", "listLike"), ("list_super_like", "listSuperLike"), ("push_subscriber", "pushSubscriber"),
    ("push_post", "pushPost"), ("push_tip", "pushTip"), ("push_purchase", "pushPurchase"),
    ("list_subscriber", "listSubscriber"), ("list_post", "listPost"), ("list_tip", "listTip"),
    ("list_purchase", "listPurchase"), ("quiet_hours", "quietHours"),
    ("time_zone", "timeZone"), ("show_content", "showContent"), ("mail_reminders", "mailReminders"),
)
SECTIONS: Final[Mapping[type[Payload], Sequence[tuple[str, str]]]] = {
    ProfileChanged: _PROFILE, PreferencesChanged: _PREFERENCES, NotificationPreferencesChanged: _NOTIFYING,
    PaymentPartiesChanged: (
        ("payment_customer", CUSTOMER), ("payment_account", "paymentAccount"), ("payment_method", "paymentMethod"),
    ),
}
"""Section of user.updated -> (its field, the record's name for it)."""
_PAIR_LISTINGS: Final[tuple[Listing, ...]] = ("match", "conv")


def created(
    user_id: str, role: Role, display_name: str, birth_date: str, *, email_hash: str, password_hash: str | None,
    version: int, verified: bool = False,
) -> tuple[Operation, ...]:
    """A new person: record, empty sets, credential. ``version`` is the account event's."""
    return (
        *appeared(user_id, role, display_name, birth_date),
        put_credential(email_hash, Credential(user_id=user_id, password_hash=password_hash, verified=verified), version),
    )


def appeared(user_id: str, role: Role, display_name: str, birth_date: str) -> tuple[Operation, ...]:
    """A new person for others: record and empty sets."""
    return (
        put_record(user_id, {"role": role, "displayName": display_name, "birthDate": birth_date}, 0),
        open_person(user_id),
    )


def sent(payload: Payload) -> dict[str, Any]:
    """The record's name -> value of what a section of user.updated changes."""
    fields = {name: value for field, name in SECTIONS[type(payload)] if (value := getattr(payload, field)) is not None}
    if isinstance(payload, PaymentPartiesChanged):
        fields |= {CUSTOMER + currency: value for currency, value in payload.currency_customers.items()}
    return fields


def recorded(payload: Payload, version: int) -> tuple[Operation, ...]:
    """What an account change does to records and relations; nothing for reports and notifications."""
    if isinstance(payload, ProfileChanged | PreferencesChanged | NotificationPreferencesChanged | PaymentPartiesChanged):
        fields = sent(payload)
        return (put_record(payload.user_id, fields, version),) if fields else ()
    if isinstance(payload, LocationChanged):
        place = {"latitude": payload.latitude, "longitude": payload.longitude, "cell": payload.cell}
        return (put_record(payload.user_id, place, version),)
    if isinstance(payload, WasActive):
        return (put_record(payload.user_id, {"lastActiveAt": payload.active_at}, version),)
    if isinstance(payload, AgeAssessed):
        found = {"verification": payload.status, "verified": payload.status == "verified"}
        return (put_record(payload.user_id, found, version),)
    if isinstance(payload, StandingChanged):
        return (put_record(payload.user_id, {"status": payload.status}, version),)
    if isinstance(payload, UserErased):
        return erased(payload.user_id)
    if isinstance(payload, ConsentChanged):
        return consented(payload.user_id, payload.creator_id, given=payload.given, version=version)
    if isinstance(payload, UserBlocked | UserUnblocked):
        blocker, other, blocked = payload.user_id, payload.blocked_id, isinstance(payload, UserBlocked)
        return (
            put_relation(blocker, other, by_other=False, blocked=blocked, version=version),
            put_relation(other, blocker, by_other=True, blocked=blocked, version=version),
        )
    return ()


def erased(user_id: str) -> tuple[Operation, ...]:
    """Nothing of the person is left in the read model but that they are gone, whatever comes late."""
    return (forget_person(user_id), put_record(user_id, erased_fields(), ERASED_VERSION), open_person(user_id))


def consented(person_id: str, creator_id: str, *, given: bool, version: int) -> tuple[Operation, ...]:
    """A consent in both people's relations. ``version``: of the person's events, so that theirs are in order."""
    return (
        put_consent(creator_id, person_id, by_other=True, given=given, version=version),
        put_consent(person_id, creator_id, by_other=False, given=given, version=version),
    )


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000)


def matched(
    one: str, other: str, *, matched_at: datetime, generation: int, version: int, heard_at: datetime | None = None
) -> tuple[Operation, ...]:
    """The match and its conversation in both people's lists, and the conversation open.

    ``heard_at``: of the newest message that is known; of a pair that matched again Redis may have heard of it while the former
    match's end was all that it knew, and put it nowhere (``put_heard``).
    """
    match, at_ms = match_id(one, other), _milliseconds(matched_at)
    heard_ms = at_ms if heard_at is None else max(at_ms, _milliseconds(heard_at))
    return (
        *_listed(one, other, version, {"match": at_ms, "conv": heard_ms}, matched_at=rfc3339(matched_at), generation=generation),
        open_conversation(match),
        *_changed(one, other, match_change(match, generation, "active")),
    )


def ended(one: str, other: str, *, generation: int, reason: MatchEnd, version: int) -> tuple[Operation, ...]:
    """The match and its conversation leave both people's lists. Both are told that it ended, once and never why.

    Generation 0 is the block of somebody who was never matched: no list had them, and nobody is told.
    """
    if not generation:
        return ()
    return (
        *_listed(one, other, version, {}, matched_at="", generation=generation, status=reason),
        *_changed(one, other, match_change(match_id(one, other), generation, "ended")),
    )


def _listed(one: str, other: str, version: int, at_ms: Mapping[str, int], **facts: Any) -> Iterator[Operation]:
    """The pair's entry in each list of both; in those without a time it is taken out."""
    match = match_id(one, other)
    for mine, theirs in ((one, other), (other, one)):
        entry = MatchEntry(match_id=match, other_id=theirs, **facts)
        for listing in _PAIR_LISTINGS:
            yield put_entry(listing, mine, match, entry, version=version, at_ms=at_ms.get(listing))


def message_sent(conversation_id: str, recipient_id: str, message: StoredMessage) -> tuple[Operation, ...]:
    """A message in its conversation, which becomes the first of both members' lists, and in what they are told when they
    ask what they missed."""
    entry = message.entry
    at_ms = _milliseconds(datetime.fromisoformat(entry.sent_at))
    return (
        put_message(conversation_id, message),
        *(put_heard(member, conversation_id, entry.seq, at_ms=at_ms) for member in (entry.sender_id, recipient_id)),
    )


def message_read(
    conversation_id: str, reader_id: str, other_id: str, *, seq: int, ordinal: int
) -> tuple[Operation, ...]:
    """A reader's mark; it is told to both members, so that the reader's other devices know it too."""
    return (
        put_mark(conversation_id, reader_id, seq, ordinal),
        *_changed(reader_id, other_id, mark_change(conversation_id, reader_id, seq)),
    )


def _changed(one: str, other: str, change: str) -> tuple[Operation, ...]:
    return (put_change(one, change), put_change(other, change))


def notified(payload: NotificationSent, at: datetime, version: int) -> tuple[Operation, ...]:
    """A notification in its recipient's list."""
    entry = NotificationEntry(
        notification_id=payload.notification_id, kind=payload.kind, title=payload.title, body=payload.body,
        data=payload.data, created_at=rfc3339(at),
    )
    return (put_notification(payload.user_id, entry, version=version, at_ms=_milliseconds(at)),)


def rfc3339(at: datetime) -> str:
    """The time in UTC with milliseconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1_000:03d}Z"
