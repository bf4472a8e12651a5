"""Bodies and answers of the moderation routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from configs.contracts.events import Action, Outcome, PermissionRole, ReportCategory, TargetType
from configs.contracts.media import MediaKind, MediaState, Review
from serve_apps.fields import Address, Answer, Body, DisplayName, Text, Time, UserIdText
from serve_apps.media.urls import MediaView

Statement = Annotated[Text, Field(min_length=1, max_length=4_000)]


class DecisionBody(Body):
    """``seen``: the case's ``number`` as the moderator saw it, so that two cannot decide unaware of each other."""

    target_type: TargetType
    action: Action
    category: ReportCategory
    statement: Statement
    seen: Annotated[StrictInt, Field(ge=0, le=1_000_000)]


class AppealDecisionBody(Body):
    outcome: Outcome
    statement: Statement


class AppealBody(Body):
    """``token``: from the notification or mail that told of the decision."""

    token: Annotated[Text, Field(min_length=1, max_length=200)]
    text: Statement


class RemovalBody(Body):
    """A request to remove an intimate image that was published without consent.

    Name the media or post by its id where it is known (``targetType`` and ``targetId``), and describe where it is seen.
    ``signature``: the full name of the person depicted, or of who may act for them; it declares that they have not
    consented and that the request is made in good faith.
    """

    target_type: Literal["media", "post", "message", "user"] | None = None
    target_id: UserIdText | None = None
    contact: Address
    signature: DisplayName
    description: Annotated[Text, Field(min_length=1, max_length=4_000)]


class RoleBody(Body):
    email: Address
    role: PermissionRole


class Decision(Answer):
    """``number``: decisions on the target by now."""

    decision_id: str
    number: int


class AppealTaken(Answer):
    appeal_id: str


class RemovalReceipt(Answer):
    """``requestId`` is the receipt; the request is decided within 48 hours."""

    request_id: str


class QueueItem(Answer):
    """One target that waits: its reports together, an appeal, media to review, or a match of the child-abuse list. ``dueAt``: until when it must be decided."""

    target_id: str
    kind: Literal["report", "appeal", "review", "match"]
    target_type: str
    due_at: str
    overdue: bool
    reports: int
    categories: list[str]
    since: str
    decision_id: str | None


class Queue(Answer):
    entries: list[QueueItem]
    next_cursor: str | None = None


class Report(Answer):
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


class DecisionEntry(Answer):
    id: str
    subject_id: str | None
    action: str
    category: str
    statement: str
    decided_by: str
    decided_at: str
    number: int


class Appeal(Answer):
    id: str
    decision_id: str
    appellant_id: str
    text: str
    appealed_at: str
    outcome: str | None
    statement: str | None
    decided_by: str | None
    decided_at: str | None


class Case(Answer):
    """Everything about one target, the newest 100 of each kind. ``evidence``: the text of a reported message or post.

    ``mediaIds``: the pictures and videos that it shows; ``GET /moderation/media/{mediaId}`` gives them.
    """

    target_id: str
    number: int
    subject_id: str | None
    evidence: str | None
    reports: list[Report]
    decisions: list[DecisionEntry]
    appeals: list[Appeal]
    media_ids: list[str]


class CaseMedia(Answer):
    """A media as a moderator sees it, whatever became of it. ``reason``: why it was rejected or removed.

    ``view``: as its owner sees it, while it is ready. ``fileUrl``: the one file that shows most of it (WebP or MP4), or of
    what was removed or matched a list the file that was kept as evidence; null where none was. Works until ``expiresAt``.
    """

    media_id: str
    owner_id: str
    kind: MediaKind
    state: MediaState
    review: Review
    reason: str | None
    view: MediaView | None
    file_url: str | None
    expires_at: Time | None


class AuditItem(Answer):
    id: str
    target_id: str
    at: str
    actor: str
    action: str
    details: dict[str, str | int]


class Audit(Answer):
    entries: list[AuditItem]
    next_cursor: str | None = None
