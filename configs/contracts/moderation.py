"""What a target's events add up to, and what both sides of moderation agree on: deadlines, ranks, appeals."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import msgspec

from configs.contracts.events import (
    Action,
    AppealDecided,
    CaseDecided,
    DecisionAppealed,
    Event,
    Outcome,
    PermissionRole,
    RemovalRequested,
    ReportCategory,
    Standing,
    StandingAfter,
    TargetType,
)
from configs.contracts.ids import derived_id

RANKS: Final[dict[PermissionRole, int]] = {"user": 0, "moderator": 1, "admin": 2}
DECISIONS: Final = 32
"""Newest decisions of one target that its shard remembers; older ones can no longer be appealed, rows keep them."""
REQUESTS: Final = 64
"""Newest removal requests of one target that are remembered; so many that nobody has decided about are one and the same case."""
APPEAL_WINDOW: Final = timedelta(days=183)
"""Six months (Digital Services Act, article 20)."""
APPEAL_TOKEN_LENGTH: Final = 107
ERASED_NUMBER: Final = 1 << 30
"""Number of the standing ``deleted``: no decision comes after it."""

DEADLINES: Final[dict[ReportCategory, timedelta]] = {
    "child_abuse": timedelta(hours=24), "underage": timedelta(hours=24), "intimate_image": timedelta(hours=48),
    "violence": timedelta(hours=72),
}
"""When a report must be decided. 48 h: the Take It Down Act; the others are ours."""
DEADLINE: Final = timedelta(days=7)
STANDINGS: Final[dict[Action, Literal["active", "suspended", "banned"]]] = {"suspend": "suspended", "ban": "banned", "reinstate": "active"}
"""Action on an account -> its standing."""
_CONTENT: Final[tuple[Action, ...]] = ("dismiss", "warn", "remove")
_SAID: Final[tuple[Action, ...]] = ("dismiss", "warn")
"""A message stays with the two who have it: its sender can be warned or suspended, and its media removed."""
_ACCOUNT: Final[tuple[Action, ...]] = ("dismiss", "warn", "suspend", "ban", "reinstate")


def due_at(category: ReportCategory, at: datetime) -> datetime:
    """When something that was reported at a time must be decided."""
    return at + DEADLINES.get(category, DEADLINE)


def actions_on(target_type: TargetType) -> tuple[Action, ...]:
    """What can be decided about a kind of target."""
    return _ACCOUNT if target_type == "user" else _SAID if target_type == "message" else _CONTENT


def appealable(action: Action) -> bool:
    return action in ("warn", "remove", "suspend", "ban")


def standing_of(payload: CaseDecided | AppealDecided) -> Standing | None:
    """The account's standing that follows; None: it stays as it is."""
    if payload.target_type != "user":
        return None
    if isinstance(payload, CaseDecided):
        return STANDINGS.get(payload.action)
    if payload.outcome != "reversed" or payload.standing == "unchanged":
        return None
    return payload.standing or ("active" if payload.action in STANDINGS else None)


def standing_id(event_id: str) -> str:
    """The id of the account's change that follows from a decision's event, whoever carries it out; a ``CaseDecided`` has the
    decision's id."""
    return derived_id(event_id, "standing")


def appeal_token(key: bytes, decision_id: str, target_id: str, subject_id: str) -> str:
    """What lets the subject of a decision appeal without signing in, since nobody signs in to a banned account."""
    body = b"".join(UUID(name).bytes for name in (decision_id, target_id, subject_id))
    seal = hmac.digest(key, b"appeal\0" + body, "sha256")
    return base64.urlsafe_b64encode(body + seal).decode().rstrip("=")


def parse_appeal_token(key: bytes, text: str) -> tuple[str, str, str] | None:
    """(decision, target, subject) of a token that ``appeal_token`` made; None for everything else."""
    if len(text) != APPEAL_TOKEN_LENGTH or not text.isascii():
        return None
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)[:48]
    except (binascii.Error, ValueError):
        return None
    decision_id, target_id, subject_id = (str(UUID(bytes=body[at : at + 16])) for at in (0, 16, 32))
    made = appeal_token(key, decision_id, target_id, subject_id)
    return (decision_id, target_id, subject_id) if hmac.compare_digest(made, text) else None


class Appeal(msgspec.Struct, frozen=True, rename="camel"):
    appeal_id: str
    outcome: Outcome | None = None
    """None: not decided yet."""
    number: int | None = None
    """Under which it was decided. None: not yet, or before this was kept."""
    standing: Standing | None = None
    """Of the account, which followed; None: it stayed as it was."""


class Decided(msgspec.Struct, frozen=True, rename="camel"):
    """One decision as its target's shard remembers it."""

    decision_id: str
    number: int
    action: Action
    decided_by: str
    decided_at: datetime
    subject_id: str | None
    statement_digest: str
    appeal: Appeal | None = None


class History(msgspec.Struct, frozen=True, rename="camel"):
    """The bounded part of a case, stored whole."""

    decisions: tuple[Decided, ...] = ()
    """The newest, oldest first."""
    requests: tuple[tuple[str, str], ...] = ()
    """(digest, request id) of the newest removal requests."""
    undecided: int = 0
    """Removal requests since the newest decision."""


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One target after all its events up to ``version``."""

    target_id: str
    target_type: TargetType
    number: int
    version: int
    history: History

    def decision(self, decision_id: str) -> Decided | None:
        return next((held for held in self.history.decisions if held.decision_id == decision_id), None)

    def standing_without(self, decision_id: str) -> StandingAfter:
        """Of the account, once a decision is reversed: that of the newest one that stands then, if it was the newest itself."""
        standing = [
            held for held in self.history.decisions
            if held.action in STANDINGS and (held.appeal is None or held.appeal.outcome != "reversed")
        ]
        if not standing or standing[-1].decision_id != decision_id:
            return "unchanged"
        return STANDINGS[standing[-2].action] if standing[1:] else "active"


def statement_digest(action: Action, category: ReportCategory, statement: str) -> str:
    """What tells two decisions apart."""
    return hashlib.blake2b(f"{action}\0{category}\0{statement}".encode(), digest_size=16).hexdigest()


def case_after(row: CaseRow | None, event: Event, version: int) -> CaseRow | None:
    """The case after one more event of its target; events no newer than the row change nothing."""
    payload = event.payload
    if not isinstance(payload, CaseDecided | DecisionAppealed | AppealDecided | RemovalRequested):
        return row
    if row is not None and version <= row.version:
        return row
    if row is None:
        kind: TargetType = "unlocated" if isinstance(payload, DecisionAppealed) else payload.target_type
        row = CaseRow(payload.target_id, kind, 0, 0, History())
    history = row.history
    if isinstance(payload, RemovalRequested):
        if any(digest == payload.digest for digest, _ in history.requests):
            return replace(row, version=version)
        kept = (*history.requests, (payload.digest, payload.request_id))[-REQUESTS:]
        return replace(row, version=version, history=msgspec.structs.replace(
            history, requests=kept, undecided=history.undecided + 1,
        ))
    if isinstance(payload, CaseDecided):
        made = Decided(
            payload.decision_id, payload.number, payload.action, payload.decided_by, event.occurred_at, payload.subject_id,
            statement_digest(payload.action, payload.category, payload.statement),
        )
        decisions = (*history.decisions, made)[-DECISIONS:]
        return CaseRow(
            row.target_id, payload.target_type, max(row.number, payload.number), version,
            msgspec.structs.replace(history, decisions=decisions, undecided=0),
        )
    appeal = Appeal(payload.appeal_id)
    if isinstance(payload, AppealDecided):
        appeal = Appeal(payload.appeal_id, payload.outcome, payload.number, standing_of(payload))
    decisions = tuple(
        msgspec.structs.replace(held, appeal=appeal)
        if held.decision_id == payload.decision_id and (held.appeal is None or held.appeal.outcome is None) else held
        for held in history.decisions
    )
    number = max(row.number, payload.number) if isinstance(payload, AppealDecided) else row.number
    return replace(row, number=number, version=version, history=msgspec.structs.replace(history, decisions=decisions))
