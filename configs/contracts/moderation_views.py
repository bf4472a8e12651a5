"""What moderators see, as the loader writes it into Redis for one request and the API reads it.

Nobody else reads these keys, they live a minute, and each request has them written anew: moderators see the rows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from configs.contracts.media import MediaRecord
from configs.contracts.read_model import Operation

VIEW_TTL_S: Final = 60
PageKind = Literal["queue", "restricted", "case", "audit"]
"""restricted: what a child-abuse list or report names, which bypasses the ordinary queue."""
FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)


class View(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of what is cached."""


class QueueEntry(View, frozen=True, kw_only=True):
    """One target that waits: its reports together, or one appeal."""

    target_id: str
    kind: Literal["report", "appeal", "review", "match"]
    """review: media that nobody has looked at · match: an upload that a child-abuse list knows, kept for the authorities."""
    target_type: str
    due_at: str
    reports: int
    categories: tuple[str, ...]
    since: str
    decision_id: str | None


class AuditEntry(View, frozen=True, kw_only=True):
    id: str
    target_id: str
    at: str
    actor: str
    action: str
    details: dict[str, Any]


class ReportView(View, frozen=True, kw_only=True):
    id: str
    reporter_id: str | None
    target_type: str
    category: str
    text: str | None
    status: str
    created_at: str
    due_at: str
    contact: str | None
    signature: str | None


class DecisionView(View, frozen=True, kw_only=True):
    id: str
    subject_id: str | None
    action: str
    category: str
    statement: str
    decided_by: str
    decided_at: str
    number: int


class AppealView(View, frozen=True, kw_only=True):
    id: str
    decision_id: str
    appellant_id: str
    text: str
    appealed_at: str
    outcome: str | None
    statement: str | None
    decided_by: str | None
    decided_at: str | None


class CaseView(View, frozen=True, kw_only=True):
    """Everything about one target, the newest 100 of each kind."""

    target_id: str
    number: int
    subject_id: str | None
    """Whose it is, where the rows tell; None also for a person, who is the target."""
    evidence: str | None
    restricted: bool = True
    """Whether any report or decision of it, shown here or not, is of child abuse: then it is for administrators only."""
    reports: tuple[ReportView, ...]
    decisions: tuple[DecisionView, ...]
    appeals: tuple[AppealView, ...]
    media_ids: tuple[str, ...] = ()
    """What it shows: a post's or message's media, a profile's photos, the media itself."""
    media: MediaRecord | None = None
    """The target, where it is a media, as the rows have it now."""


class Queue(View, frozen=True, kw_only=True):
    entries: tuple[QueueEntry, ...]


class Audit(View, frozen=True, kw_only=True):
    entries: tuple[AuditEntry, ...]


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Which page: its kind, how many entries, after which time and id, and of which target (empty: of any)."""

    kind: PageKind
    limit: int
    at: datetime
    after: str
    target_id: str = ""


_PLACES: Final = msgspec.json.Decoder(Place)


def page_name(place: Place) -> str:
    """Names a page to the loader."""
    return msgspec.json.encode(place).decode()


def read_page(name: str) -> Place:
    return _PLACES.decode(name)


def view_key(name: str) -> str:
    return f"mod:{name}"


def put_view(name: str, content: msgspec.Struct) -> Operation:
    return Operation("cache", (view_key(name),), (msgspec.json.encode(content), VIEW_TTL_S))
