"""moderation.decided -> cases, decisions, appeals, and the reports that they settle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from configs.contracts.events import AppealDecided, CaseDecided, DecisionAppealed, RemovalRequested
from configs.contracts.moderation import DEADLINE, CaseRow, History, case_after, due_at
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, parsed_id

COLUMNS = "target_id::text, target_type, number, version, history"
READ = f"SELECT {COLUMNS} FROM moderation_cases WHERE target_id = ANY(%s)"  # noqa: S608
WRITE = """
INSERT INTO moderation_cases AS stored (target_id, target_type, number, version, history)
SELECT target_id, target_type, number, version, history::jsonb
FROM unnest(%s, %s, %s, %s, %s) AS batch (target_id, target_type, number, version, history)
ON CONFLICT (target_id) DO UPDATE
SET target_type = excluded.target_type, number = excluded.number, version = excluded.version, history = excluded.history
WHERE stored.version < excluded.version
"""
DECISION = """
INSERT INTO decisions (target_id, id, target_type, subject_id, action, category, statement, decided_by, decided_at, number, version)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (target_id, id) DO NOTHING
"""
SETTLED = """
UPDATE reports SET status = 'decided', decision_id = %(decision)s
WHERE target_id = %(target)s AND status = 'open' AND created_at <= %(at)s
"""
APPEAL = """
INSERT INTO appeals (target_id, decision_id, id, appellant_id, body, appealed_at, due_at, version)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (target_id, decision_id) DO NOTHING
"""
OUTCOME = """
UPDATE appeals SET outcome = %s, statement = %s, decided_by = %s, decided_at = %s, version = %s
WHERE target_id = %s AND decision_id = %s AND outcome IS NULL
"""
REQUEST = """
INSERT INTO reports (target_id, id, target_type, reporter_id, category, body, created_at, version, due_at, contact, signature)
VALUES (%s, %s, %s, NULL, 'intimate_image', %s, %s, %s, %s, %s, %s) ON CONFLICT (target_id, id) DO NOTHING
"""


def read_case(row: Sequence[Any]) -> CaseRow:
    """The case of a row of ``COLUMNS``."""
    target_id, target_type, number, version, history = row
    return CaseRow(target_id, target_type, number, version, msgspec.convert(history, History))


def fold(stored: Mapping[str, CaseRow], facts: Iterable[Fact]) -> dict[str, CaseRow]:
    """The cases after the facts, by target; only those that changed."""
    changed: dict[str, CaseRow] = {}
    for event, version, _ in facts:
        target_id = str(parsed_id(event.payload.target_id))
        before = changed.get(target_id) or stored.get(target_id)
        case = case_after(before, event, version)
        if case is not None and case is not before:
            changed[target_id] = case
    return changed


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    targets = sorted({fact.event.payload.target_id for fact in facts})
    stored = {row[0]: read_case(row) for row in cur.execute(READ, (columns.uuids(targets),)).fetchall()}
    changed = fold(stored, facts)
    if changed:
        cases = changed.values()
        cur.execute(WRITE, (
            columns.uuids(list(changed)), columns.texts(case.target_type for case in cases),
            columns.bigints([case.number for case in cases]), columns.bigints([case.version for case in cases]),
            columns.texts(msgspec.json.encode(case.history).decode() for case in cases),
        ))
    for fact in facts:
        _one(cur, fact)
    return len(facts)


def _one(cur: Cursor, fact: Fact) -> None:
    """Decisions are a few an hour: each is its own statement."""
    event, version, _ = fact
    payload, at = event.payload, event.occurred_at
    if isinstance(payload, CaseDecided):
        cur.execute(DECISION, (
            payload.target_id, payload.decision_id, payload.target_type, payload.subject_id, payload.action, payload.category,
            payload.statement, payload.decided_by, at, payload.number, version,
        ))
        cur.execute(SETTLED, {"decision": payload.decision_id, "target": payload.target_id, "at": at})
    elif isinstance(payload, DecisionAppealed):
        cur.execute(APPEAL, (
            payload.target_id, payload.decision_id, payload.appeal_id, payload.appellant_id, payload.text, at, at + DEADLINE, version,
        ))
    elif isinstance(payload, AppealDecided):
        cur.execute(OUTCOME, (
            payload.outcome, payload.statement, payload.decided_by, at, version, payload.target_id, payload.decision_id,
        ))
    elif isinstance(payload, RemovalRequested):
        cur.execute(REQUEST, (
            payload.target_id, payload.request_id, payload.target_type, payload.description, at, version,
            due_at("intimate_image", at), payload.contact, payload.signature,
        ))


SINK = Sink("moderation", (CaseDecided, DecisionAppealed, AppealDecided, RemovalRequested), write)
