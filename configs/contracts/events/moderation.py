"""Decisions of moderators, appeals against them, and requests to remove intimate images."""

from __future__ import annotations

from typing import ClassVar

from configs.contracts import topics
from configs.contracts.events.base import Action, Outcome, Payload, ReportCategory, StandingAfter, TargetType
from configs.contracts.topics import Topic


class CaseDecided(Payload, frozen=True, kw_only=True):
    """A moderator's decision on one target, with the statement of reasons that both sides are told."""

    TYPE: ClassVar[str] = "case_decided"
    decision_id: str
    target_type: TargetType
    target_id: str
    subject_id: str | None = None
    """Whose it is; None: nobody is known."""
    action: Action
    category: ReportCategory
    statement: str
    decided_by: str
    """``person:`` and an id, or ``service:`` and a name."""
    number: int
    """Decisions on the target so far, reversed ones and reversals counted."""


class DecisionAppealed(Payload, frozen=True, kw_only=True):
    """Whoever a decision is about asks another moderator to look again; once a decision."""

    TYPE: ClassVar[str] = "decision_appealed"
    appeal_id: str
    decision_id: str
    target_id: str
    appellant_id: str
    text: str


class AppealDecided(Payload, frozen=True, kw_only=True):
    """Another moderator's word on an appeal; ``reversed`` takes back what the decision did."""

    TYPE: ClassVar[str] = "appeal_decided"
    appeal_id: str
    decision_id: str
    target_type: TargetType
    target_id: str
    subject_id: str
    action: Action
    """Of the decision."""
    outcome: Outcome
    statement: str
    decided_by: str
    number: int
    standing: StandingAfter | None = None
    """Of the person whom a reversed decision was about: what stands without it. None: not of a person, or written before this was."""


class RemovalRequested(Payload, frozen=True, kw_only=True):
    """Somebody, signed in or not, asks for an intimate image of theirs to be removed; due within 48 hours."""

    TYPE: ClassVar[str] = "removal_requested"
    request_id: str
    target_type: TargetType
    target_id: str
    contact: str
    """Address under which the person can be reached."""
    signature: str
    """The name under which they declare that they are depicted and have not consented."""
    description: str
    digest: str
    """Names the request, so that sending it again is the same request."""


class EvidenceSeen(Payload, frozen=True, kw_only=True):
    """A moderator was given the picture or video of a case; for the audit log."""

    TYPE: ClassVar[str] = "evidence_seen"
    target_id: str
    """The media."""
    seen_by: str
    """``person:`` and an id, or ``service:`` and a name."""


EVENTS: tuple[tuple[Topic, type[Payload]], ...] = (
    (topics.MODERATION_DECIDED, CaseDecided),
    (topics.MODERATION_DECIDED, DecisionAppealed),
    (topics.MODERATION_DECIDED, AppealDecided),
    (topics.MODERATION_DECIDED, RemovalRequested),
    (topics.MODERATION_DECIDED, EvidenceSeen),
)
