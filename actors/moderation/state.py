"""Decisions on targets: pure decisions, rebuilt from rows and the log. A case is decided by one moderator at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from actors.entries import Entries
from actors.folded import Folded
from actors.moderation.commands import (
    AppealDecision,
    Appealed,
    CaseMoved,
    Decide,
    DecideAppeal,
    DecisionMade,
    ModerationAnswer,
    ModerationCommand,
    NotAppealable,
    Noted,
    OwnCase,
    RemovalTaken,
    RequestRemoval,
    SameModerator,
    SeeEvidence,
    TooManyRequests,
)
from actors.sharding.memory import Append, Decision
from configs.contracts.events import (
    AppealDecided,
    CaseDecided,
    DecisionAppealed,
    Event,
    EvidenceSeen,
    Payload,
    RemovalRequested,
)
from configs.contracts.ids import derived_id, new_id
from configs.contracts.moderation import (
    APPEAL_WINDOW,
    REQUESTS,
    STANDINGS,
    CaseRow,
    History,
    appealable,
    case_after,
    standing_of,
    statement_digest,
)
from configs.contracts.topics import MODERATION_DECIDED


def _case() -> Folded[CaseRow]:
    return Folded(case_after)


class ModerationMemory:
    """Targets in memory. Of two moderators who decide at once one is told so, and a decision is appealed once."""

    def __init__(self) -> None:
        self._cases: Entries[Folded[CaseRow]] = Entries(_case)

    def needs(self, command: ModerationCommand) -> Sequence[str]:
        return (command.target_id,)

    def known(self, key: str) -> bool:
        case = self._cases.get(key)
        return case is not None and case.loaded

    def load(self, key: str, row: object | None) -> None:
        """Merges a ``CaseRow``; None: nobody ever decided or asked anything about it."""
        self._cases.use(key).load(row if isinstance(row, CaseRow) else None)

    def conflict_key(self, command: ModerationCommand) -> str:
        return command.target_id

    def decide(self, command: ModerationCommand, now: datetime) -> Decision[ModerationAnswer]:
        row = (self._cases.get(command.target_id) or _case()).row
        if isinstance(command, RequestRemoval):
            return _requested(command, row, now)
        if isinstance(command, Decide):
            return _decide(command, row, now)
        if isinstance(command, AppealDecision):
            return _appeal(command, row, now)
        if isinstance(command, SeeEvidence):
            seen = EvidenceSeen(target_id=command.target_id, seen_by=command.seen_by)
            return _decided(new_id(), seen, now, Noted())
        return _decide_appeal(command, row, now)

    def apply(self, event: Event, version: int) -> None:
        if isinstance(event.payload, CaseDecided | DecisionAppealed | AppealDecided | RemovalRequested):
            self._cases.use(event.payload.target_id).take(event, version)

    def entries(self) -> int:
        return len(self._cases)

    def evict(self, limit: int, committed: Callable[[str], int]) -> int:
        return self._cases.evict(limit, lambda key, case: case.newest < committed(key))


def _decide(command: Decide, row: CaseRow | None, now: datetime) -> Decision[ModerationAnswer]:
    number = 0 if row is None else row.number
    digest = statement_digest(command.action, command.category, command.statement)
    newest = row.history.decisions[-1] if row is not None and row.history.decisions else None
    if number != command.seen:
        if (
            newest is not None and newest.number == number == command.seen + 1
            and (newest.decided_by, newest.statement_digest) == (command.decided_by, digest)
        ):
            standing = STANDINGS.get(newest.action) if command.target_type == "user" else None
            return _answer(DecisionMade(
                newest.decision_id, newest.decision_id, number, newest.subject_id, standing, repeated=True
            ))
        return _answer(CaseMoved(number))
    decision_id = new_id()
    decided = CaseDecided(
        decision_id=decision_id, target_type=command.target_type, target_id=command.target_id, subject_id=command.subject_id,
        action=command.action, category=command.category, statement=command.statement, decided_by=command.decided_by,
        number=number + 1,
    )
    made = DecisionMade(decision_id, decision_id, number + 1, command.subject_id, standing_of(decided))
    return _decided(decision_id, decided, now, made)


def _appeal(command: AppealDecision, row: CaseRow | None, now: datetime) -> Decision[ModerationAnswer]:
    decision = None if row is None else row.decision(command.decision_id)
    if (
        decision is None or decision.subject_id != command.appellant_id or not appealable(decision.action)
        or now - decision.decided_at > APPEAL_WINDOW
    ):
        return _answer(NotAppealable())
    if decision.appeal is not None:
        return _answer(NotAppealable() if decision.appeal.outcome else Appealed(decision.appeal.appeal_id))
    appeal_id = derived_id(command.decision_id, "appeal")
    appealed = DecisionAppealed(
        appeal_id=appeal_id, decision_id=command.decision_id, target_id=command.target_id,
        appellant_id=command.appellant_id, text=command.text,
    )
    return _decided(appeal_id, appealed, now, Appealed(appeal_id))


def _decide_appeal(command: DecideAppeal, row: CaseRow | None, now: datetime) -> Decision[ModerationAnswer]:
    decision = None if row is None else row.decision(command.decision_id)
    if row is None or decision is None or decision.appeal is None or decision.subject_id is None:
        return _answer(NotAppealable())
    if decision.subject_id == command.person_id:
        return _answer(OwnCase())
    if decision.decided_by == command.decided_by:
        return _answer(SameModerator())
    event_id = derived_id(decision.appeal.appeal_id, "decided")
    if decision.appeal.outcome is not None:
        if decision.appeal.outcome != command.outcome:
            return _answer(NotAppealable())
        held = decision.appeal.number
        return _answer(DecisionMade(
            decision.decision_id, event_id, row.number if held is None else held, decision.subject_id,
            decision.appeal.standing, repeated=True,
        ))
    number, reversed_ = row.number + 1, command.outcome == "reversed"
    decided = AppealDecided(
        appeal_id=decision.appeal.appeal_id, decision_id=decision.decision_id, target_type=row.target_type,
        target_id=row.target_id, subject_id=decision.subject_id, action=decision.action, outcome=command.outcome,
        statement=command.statement, decided_by=command.decided_by, number=number,
        standing=row.standing_without(decision.decision_id) if reversed_ and row.target_type == "user" else None,
    )
    made = DecisionMade(decision.decision_id, event_id, number, decision.subject_id, standing_of(decided))
    return _decided(event_id, decided, now, made)


def _requested(command: RequestRemoval, row: CaseRow | None, now: datetime) -> Decision[ModerationAnswer]:
    history = History() if row is None else row.history
    held = dict(history.requests).get(command.digest)
    if held is not None:
        return _answer(RemovalTaken(held))
    if history.undecided >= REQUESTS:
        return _answer(TooManyRequests())
    requested = RemovalRequested(
        request_id=command.request_id, target_type=command.target_type, target_id=command.target_id,
        contact=command.contact, signature=command.signature, description=command.description, digest=command.digest,
    )
    return _decided(command.request_id, requested, now, RemovalTaken(command.request_id))


def _answer(answer: ModerationAnswer) -> Decision[ModerationAnswer]:
    return Decision((), lambda versions: answer)


def _decided(event_id: str, payload: Payload, now: datetime, answer: ModerationAnswer) -> Decision[ModerationAnswer]:
    key: str = payload.target_id  # type: ignore[attr-defined]  # every event of moderation.decided has it
    event = Event(event_id, now, key, payload)
    return Decision((Append(MODERATION_DECIDED, key, event),), lambda versions: answer)
