"""Routes on which moderators look: the queue, a case, the audit log. Each request sees the rows as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import APIRouter, Path, Query, Response

from actors.moderation.commands import SeeEvidence
from cluster.connections.media.signing import CACHE_CONTROL
from configs.contracts.media import best_derivative, derivative_key, preserved_key
from configs.contracts.moderation_views import (
    BEGIN,
    END,
    FIRST_ID,
    LAST_ID,
    AuditEntry,
    CaseView,
    Place,
    QueueEntry,
    page_name,
    view_key,
)
from configs.contracts.moderation_views import Audit as AuditView
from configs.contracts.moderation_views import Queue as QueueView
from serve_apps.dependencies import Dependencies
from serve_apps.fields import UUID_PATTERN
from serve_apps.identity import Admin, Deps, Moderator, Staff
from serve_apps.media.routes import MediaIdPath, in_store
from serve_apps.moderation.models import (
    Appeal,
    Audit,
    AuditItem,
    Case,
    CaseMedia,
    DecisionEntry,
    Queue,
    QueueItem,
    Report,
)
from serve_apps.pages import Cursor, Limit
from serve_apps.problems import EVERYWHERE, Refused, errors
from serve_apps.recording import to_the_end

router = APIRouter(prefix="/moderation", tags=["moderation"])

STAFF: Final = (*EVERYWHERE, "unauthenticated", "forbidden", "read_model_unknown")
TargetIdPath = Annotated[str, Path(alias="targetId", pattern=UUID_PATTERN, description="what is decided about: its id")]
V = TypeVar("V", bound=msgspec.Struct)


async def view(dependencies: Dependencies, place: Place, kind: type[V]) -> V:
    """What the rows say now. Raises Refused: they do not answer in time."""
    name = page_name(place)
    await dependencies.warm_moderation.ensure((name,))
    (value,) = await dependencies.reads.read(("GET", view_key(name)))
    if value is None:
        raise Refused("read_model_unknown")
    return msgspec.json.decode(value, type=kind)


async def case_for(staff: Staff, dependencies: Dependencies, target_id: str) -> CaseView:
    """The case, for somebody who may see it and decide about it. Raises Refused: it is for administrators only."""
    found = await view(dependencies, Place("case", 0, BEGIN, FIRST_ID, target_id), CaseView)
    if found.restricted and staff.role != "admin":
        raise Refused("forbidden")
    return found


@router.get("/queue", operation_id="listModerationQueue", response_model=Queue, responses=errors(*STAFF, "cursor_invalid"))
async def queue(
    staff: Moderator, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None,
    restricted: Annotated[bool, Query(description="what was reported for child abuse, for administrators; never among the others")] = False,
) -> Queue:
    """What waits for a decision, the most urgent first."""
    if restricted and staff.role != "admin":
        raise Refused("forbidden")
    use = b"mod-restricted" if restricted else b"mod-queue"
    at, after = _opened(dependencies, use, cursor, (BEGIN, FIRST_ID))
    found = await view(dependencies, Place("restricted" if restricted else "queue", limit + 1, at, after), QueueView)
    shown, now = found.entries[:limit], datetime.now(UTC)
    following = None
    if len(found.entries) > limit:
        following = _sealed(dependencies, use, shown[-1].due_at, shown[-1].target_id)
    return Queue(entries=[_item(entry, now) for entry in shown], next_cursor=following)


def _item(entry: QueueEntry, now: datetime) -> QueueItem:
    facts = msgspec.structs.asdict(entry)
    return QueueItem(**facts, overdue=datetime.fromisoformat(entry.due_at) < now)


@router.get("/cases/{targetId}", operation_id="getModerationCase", response_model=Case, responses=errors(*STAFF))
async def case(target_id: TargetIdPath, staff: Moderator, dependencies: Deps) -> Case:
    """Reports, decisions and appeals of one target; of one that nobody reported there are none."""
    found = await case_for(staff, dependencies, target_id)
    return Case(
        target_id=target_id, number=found.number, subject_id=found.subject_id, evidence=found.evidence,
        reports=[Report(**msgspec.structs.asdict(report)) for report in found.reports],
        decisions=[DecisionEntry(**msgspec.structs.asdict(decision)) for decision in found.decisions],
        appeals=[Appeal(**msgspec.structs.asdict(appeal)) for appeal in found.appeals],
        media_ids=list(found.media_ids),
    )


@router.get(
    "/media/{mediaId}", operation_id="getCaseMedia", response_model=CaseMedia, responses=errors(*STAFF, "not_found")
)
async def case_media(media_id: MediaIdPath, staff: Moderator, dependencies: Deps, response: Response) -> CaseMedia:
    """A picture or video that is to be decided about, with signed URLs; the audit log says who got them."""
    case = await case_for(staff, dependencies, media_id)
    record = case.media
    if record is None:
        raise Refused("not_found")
    if record.owner_id == staff.person_id:
        raise Refused("forbidden")
    await to_the_end(dependencies.moderation.record(SeeEvidence(target_id=media_id, seen_by=staff.name)))
    ready = record.state == "ready"
    key = derivative_key(media_id, best_derivative(record)) if ready else preserved_key(media_id)
    there = ready or await in_store(lambda: dependencies.media_store.size(key)) is not None
    url, expires_s = dependencies.media_urls.stored(key)
    response.headers["Cache-Control"] = CACHE_CONTROL
    return CaseMedia(
        media_id=media_id, owner_id=record.owner_id, kind=record.kind, state=record.state, review=record.review,
        reason=record.reason, view=dependencies.media_urls.full(record) if ready else None,
        file_url=url if there else None, expires_at=datetime.fromtimestamp(expires_s, UTC) if there else None,
    )


@router.get("/audit", operation_id="listAudit", response_model=Audit, responses=errors(*STAFF, "cursor_invalid"))
async def audit(
    staff: Admin, dependencies: Deps, limit: Limit = 20, cursor: Cursor = None,
    target_id: Annotated[str | None, Query(alias="targetId", pattern=UUID_PATTERN, description="only acts on this target")] = None,
) -> Audit:
    """Who did what, the newest first. Nothing in it is ever changed."""
    at, after = _opened(dependencies, b"mod-audit", cursor, (END, LAST_ID))
    found = await view(dependencies, Place("audit", limit + 1, at, after, target_id or ""), AuditView)
    shown: tuple[AuditEntry, ...] = found.entries[:limit]
    following = None
    if len(found.entries) > limit:
        following = _sealed(dependencies, b"mod-audit", shown[-1].at, shown[-1].id)
    return Audit(entries=[AuditItem(**msgspec.structs.asdict(entry)) for entry in shown], next_cursor=following)


def _sealed(dependencies: Dependencies, use: bytes, at: str, after: str) -> str:
    return dependencies.seals.seal(use, f"{at} {after}".encode())


def _opened(dependencies: Dependencies, use: bytes, cursor: str | None, begin: tuple[datetime, str]) -> tuple[datetime, str]:
    """(time, id) after which the page begins. Raises Refused: the cursor is of another list."""
    if cursor is None:
        return begin
    opened = dependencies.seals.open(use, cursor)
    if opened is None:
        raise Refused("cursor_invalid")
    at, _, after = opened.decode().partition(" ")
    return datetime.fromisoformat(at), after
