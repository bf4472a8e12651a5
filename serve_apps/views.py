"""How a record looks to its owner and to others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Self

from pydantic import Field

from configs.contracts.conversations import MessageEntry
from configs.contracts.events import Role
from configs.contracts.people import DAY_S, NOW_S, OPPOSITE, WEEK_S, Bucket
from configs.contracts.read_model import UserRecord
from serve_apps.fields import Answer
from serve_apps.media.urls import MediaUrls, MediaView

_NOTHING: Final[Mapping[str, MediaView]] = MappingProxyType({})
_SECONDS: Final = len("2026-01-31T23:59:59")


class Summary(Answer):
    """What lists show of another person."""

    user_id: str
    display_name: str
    age: int
    role: Role
    avatar_url: str | None
    verified: bool


class Attachment(Answer):
    """A media of a message. ``media`` is null while it is not approved, once it was removed, for who has not proved their
    age, and in lists of conversations and matches."""

    media_id: str
    media: MediaView | None


class Message(Answer):
    """A message; ``seq`` is its place in the conversation, from 1 and without gaps."""

    message_id: str
    seq: int
    sender_id: str
    content: str
    sent_at: str
    client_message_id: str
    post_id: str | None = Field(None, description="a pay-per-view post that only you two find: what it shows, the posts tell")
    attachments: list[Attachment] = Field(default_factory=list)

    @classmethod
    def of(cls, entry: MessageEntry, attached: Mapping[str, MediaView] = _NOTHING, **more: str) -> Self:
        """``attached``: what the viewer may see of attachments, by media."""
        return cls(
            message_id=entry.message_id, seq=entry.seq, sender_id=entry.sender_id, content=entry.content,
            sent_at=entry.sent_at, client_message_id=entry.client_message_id, post_id=entry.post_id,
            attachments=[Attachment(media_id=name, media=attached.get(name)) for name in entry.attachments], **more,
        )


class Moment:
    """A time to which ages and activity are told; comparing texts costs a tenth of parsing dates, twenty times a page."""

    __slots__ = ("_day", "_month_day", "_now", "_week", "_year", "at")

    def __init__(self, at: datetime) -> None:
        self.at = at
        self._year, self._month_day = at.year, f"{at.month:02d}-{at.day:02d}"
        self._now, self._day, self._week = (
            (at - timedelta(seconds=seconds)).isoformat()[:_SECONDS] for seconds in (NOW_S, DAY_S, WEEK_S)
        )

    @classmethod
    def about(cls, now_s: float) -> Moment:
        """A time in Unix seconds."""
        return cls(datetime.fromtimestamp(now_s, UTC))

    @classmethod
    def now(cls) -> Moment:
        return cls(datetime.now(UTC))

    def age(self, record: UserRecord) -> int:
        """Completed years of a record that has a birth date, as ``configs.contracts.people.age_years``."""
        birth = record.birth_date
        return self._year - int(birth[:4]) - (self._month_day < birth[5:10])

    def bucket(self, last_active_at: str | None) -> Bucket:
        """How long ago, coarsely: within 15 minutes, a day, a week, or longer (also: never). Takes RFC 3339 in UTC."""
        if last_active_at is None:
            return "older"
        seconds = last_active_at[:_SECONDS]
        if seconds >= self._now:
            return "now"
        if seconds >= self._day:
            return "today"
        return "week" if seconds >= self._week else "older"


def bucket_changes_at(last_active_at: str | None, moment: Moment) -> float:
    """When ``moment.bucket`` of this activity will be another one, in Unix seconds; infinity: never."""
    if last_active_at is None:
        return float("inf")
    active_s = datetime.fromisoformat(last_active_at).replace(microsecond=0).timestamp()
    now_s = moment.at.timestamp()
    return next((end for seconds in (NOW_S, DAY_S, WEEK_S) if (end := active_s + seconds + 1) > now_s), float("inf"))


def roles_of(record: UserRecord) -> tuple[Role, ...]:
    """The roles the person looks for: their own choice, else the opposite role."""
    if record.roles is not None:
        return record.roles
    assert record.role is not None
    return OPPOSITE[record.role]  # type: ignore[return-value]


def summary(record: UserRecord, urls: MediaUrls) -> Summary:
    """A person who exists, for a list."""
    assert record.role is not None
    return Summary(
        user_id=record.user_id, display_name=record.display_name, age=Moment.now().age(record),
        role=record.role, avatar_url=urls.avatar(record.photos), verified=record.verified,
    )
