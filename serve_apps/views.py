"""How a record looks to its owner and to others."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final, Literal

from configs.contracts.events import Role
from configs.contracts.people import OPPOSITE, age_years
from configs.contracts.read_model import UserRecord
from serve_apps.fields import Answer

Bucket = Literal["now", "today", "week", "older"]
NOW_S: Final = 900
DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S


class Summary(Answer):
    """What lists show of another person."""

    user_id: str
    display_name: str
    age: int
    role: Role
    avatar_url: str | None
    verified: bool


def age_of(record: UserRecord, today: date) -> int:
    """Completed years of a record that has a birth date."""
    birth = record.birth_date
    return age_years(date(int(birth[:4]), int(birth[5:7]), int(birth[8:10])), today)


def bucket(last_active_at: str | None, now: datetime) -> Bucket:
    """How long ago, coarsely: within 15 minutes, a day, a week, or longer (also: never)."""
    if last_active_at is None:
        return "older"
    seconds = (now - datetime.fromisoformat(last_active_at)).total_seconds()
    if seconds <= NOW_S:
        return "now"
    if seconds <= DAY_S:
        return "today"
    return "week" if seconds <= WEEK_S else "older"


def roles_of(record: UserRecord) -> tuple[Role, ...]:
    """The roles the person looks for: their own choice, else the opposite role."""
    if record.roles is not None:
        return record.roles
    assert record.role is not None
    return OPPOSITE[record.role]  # type: ignore[return-value]


def summary(record: UserRecord) -> Summary:
    """A person who exists, for a list."""
    assert record.role is not None
    return Summary(
        user_id=record.user_id, display_name=record.display_name, age=age_of(record, datetime.now(UTC).date()),
        role=record.role, avatar_url=None, verified=record.verified,
    )
