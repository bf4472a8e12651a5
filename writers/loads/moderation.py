"""Cases for their shards, and what moderators see of the queue, of one case and of the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from configs.contracts.changes import rfc3339
from configs.contracts.moderation import CaseRow
from configs.contracts.moderation_views import (
    AppealView,
    Audit,
    AuditEntry,
    CaseView,
    DecisionView,
    Place,
    Queue,
    QueueEntry,
    ReportView,
    put_view,
    read_page,
)
from configs.contracts.read_model import Operation
from writers.connections import Connection
from writers.sinks.media import read_media_row
from writers.sinks.moderation import COLUMNS, read_case

REPORTS_SHOWN: Final = 100
CASES: Final = f"SELECT {COLUMNS} FROM moderation_cases WHERE target_id = ANY(%s)"  # noqa: S608
ADDRESSES: Final = """
SELECT user_id::text, email_hash FROM credentials
WHERE user_id = ANY(%s) AND status <> 'deleted' AND security ->> 'home' IS NULL
"""

RESTRICTED: Final = """
(EXISTS (SELECT 1 FROM reports AS known WHERE known.target_id = {target} AND known.category = 'child_abuse')
 OR EXISTS (SELECT 1 FROM decisions AS known WHERE known.target_id = {target} AND known.category = 'child_abuse')
 OR EXISTS (SELECT 1 FROM media AS known WHERE known.id = {target} AND known.matched = 'csam'))
"""
"""Whether the case of a target is for administrators only, whatever else it was reported for."""
IS_RESTRICTED: Final = f"SELECT {RESTRICTED.format(target='%(target)s')}"
QUEUE: Final = f"""
SELECT * FROM (
    SELECT target_id::text AS target, 'report' AS kind, min(target_type) AS type, min(due_at) AS due, count(*) AS reports,
           array_agg(DISTINCT category) AS categories, min(created_at) AS since, NULL AS decision_id
    FROM reports WHERE status = 'open' AND {RESTRICTED.format(target="reports.target_id")} = %(restricted)s GROUP BY target_id
    UNION ALL
    SELECT appeals.target_id::text, 'appeal', target_type, due_at, 1, ARRAY[category], appealed_at, decision_id::text
    FROM appeals JOIN decisions ON decisions.target_id = appeals.target_id AND decisions.id = appeals.decision_id
    WHERE outcome IS NULL AND {RESTRICTED.format(target="appeals.target_id")} = %(restricted)s
    UNION ALL
    SELECT id::text, 'review', 'media', created_at + interval '1 day', 0, '{{}}', created_at, NULL
    FROM media WHERE state = 'ready' AND review = 'pending' AND {RESTRICTED.format(target="media.id")} = %(restricted)s
    UNION ALL
    SELECT id::text, 'match', 'media', created_at + interval '1 day', 0, ARRAY['child_abuse'], created_at, NULL
    FROM media WHERE preserved AND %(restricted)s AND NOT EXISTS (SELECT 1 FROM decisions WHERE target_id = media.id)
) AS waiting
WHERE (due, target) > (%(due)s, %(target)s) ORDER BY due, target LIMIT %(limit)s
"""  # noqa: S608 - constants
OVERDUE: Final = """
SELECT (SELECT count(*) FROM reports WHERE status = 'open') + (SELECT count(*) FROM appeals WHERE outcome IS NULL),
       (SELECT count(*) FROM reports WHERE status = 'open' AND due_at < now())
       + (SELECT count(*) FROM appeals WHERE outcome IS NULL AND due_at < now())
"""
REPORTS: Final = """
SELECT id::text, reporter_id::text, target_type, category, body, status, created_at, due_at, contact, signature
FROM reports WHERE target_id = %s ORDER BY created_at DESC, id LIMIT %s
"""
DECISIONS: Final = """
SELECT id::text, subject_id::text, action, category, statement, decided_by, decided_at, number
FROM decisions WHERE target_id = %s ORDER BY number DESC LIMIT %s
"""
APPEALS: Final = """
SELECT id::text, decision_id::text, appellant_id::text, body, appealed_at, outcome, statement, decided_by, decided_at
FROM appeals WHERE target_id = %s ORDER BY appealed_at DESC LIMIT %s
"""
AUDIT: Final = """
SELECT id::text, target_id::text, at, actor, action, details::text FROM audit_log
WHERE (at, id) < (%(at)s, %(id)s) AND (%(target)s::uuid IS NULL OR target_id = %(target)s) ORDER BY at DESC, id DESC LIMIT %(limit)s
"""
SUBJECT: Final = """
SELECT sender_id::text, content, attachments::text[], NULL FROM reports JOIN messages ON conversation_id = context_id AND messages.id = target_id
WHERE target_id = %(target)s AND target_type = 'message'
UNION ALL SELECT author_id::text, comments.text, '{}', NULL FROM reports JOIN comments ON post_id = context_id AND comments.id = target_id
WHERE target_id = %(target)s AND target_type = 'comment'
UNION ALL SELECT owner_id::text, NULL, ARRAY[id::text], facts::text FROM media WHERE id = %(target)s
UNION ALL SELECT creator_id::text, caption, media_ids::text[], NULL FROM posts WHERE id = %(target)s
UNION ALL SELECT NULL, NULL, photos::text[], NULL FROM albums WHERE owner_id = %(target)s
LIMIT 1
"""
"""Whose the target is, its text, the media that it shows, and the facts of a media; a message is looked for in the conversation that its reporter named, a comment at the post."""


def cases(conn: Connection, target_ids: Sequence[str]) -> Mapping[str, CaseRow]:
    """Only targets about which something was decided or asked; keyed as they were asked for."""
    rows = conn.execute(CASES, ([UUID(text) for text in target_ids],)).fetchall()
    return {case.target_id: case for case in map(read_case, rows)}


def addresses(conn: Connection, user_ids: Sequence[str]) -> Mapping[str, str]:
    """Person -> the hash of their account's address; only people who have an account."""
    rows = conn.execute(ADDRESSES, ([UUID(text) for text in user_ids],)).fetchall()
    return {user_id: address.hex for user_id, address in rows}


def waiting(conn: Connection) -> tuple[int, int]:
    """(reports and appeals that wait, how many of them are overdue)."""
    row = conn.execute(OVERDUE).fetchone()
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)


def views(conn: Connection, names: Sequence[str]) -> tuple[list[str], list[Operation]]:
    """(the names, the operations that cache what they name) for the API to read; see ``moderation_views``."""
    made: list[Operation] = []
    for name in names:
        page = read_page(name)
        content: msgspec.Struct
        if page.kind == "case":
            content = _case(conn, page.target_id)
        elif page.kind == "audit":
            content = Audit(entries=tuple(_audit(conn, page)))
        else:
            content = Queue(entries=tuple(_queue(conn, page)))
        made.append(put_view(name, content))
    return list(names), made


def _queue(conn: Connection, page: Place) -> list[QueueEntry]:
    rows = conn.execute(QUEUE, {
        "restricted": page.kind == "restricted", "due": page.at, "target": page.after, "limit": page.limit,
    }).fetchall()
    return [
        QueueEntry(
            target_id=target, kind=kind, target_type=kind_of, due_at=rfc3339(due), reports=reports,
            categories=tuple(categories), since=rfc3339(since), decision_id=decision,
        )
        for target, kind, kind_of, due, reports, categories, since, decision in rows
    ]


def _audit(conn: Connection, page: Place) -> list[AuditEntry]:
    rows = conn.execute(AUDIT, {
        "at": page.at, "id": page.after, "target": page.target_id or None, "limit": page.limit,
    }).fetchall()
    return [
        AuditEntry(id=ident, target_id=target, at=rfc3339(at), actor=actor, action=action, details=msgspec.json.decode(details, type=dict[str, Any]))
        for ident, target, at, actor, action, details in rows
    ]


def _case(conn: Connection, target_id: str) -> CaseView:
    limit = REPORTS_SHOWN
    target = UUID(target_id)
    reports = [
        ReportView(
            id=ident, reporter_id=reporter, target_type=kind, category=category, text=body, status=status,
            created_at=rfc3339(at), due_at=rfc3339(due), contact=contact, signature=signature,
        )
        for ident, reporter, kind, category, body, status, at, due, contact, signature
        in conn.execute(REPORTS, (target, limit)).fetchall()
    ]
    decisions = [
        DecisionView(
            id=ident, subject_id=subject, action=action, category=category, statement=statement, decided_by=by,
            decided_at=rfc3339(at), number=number,
        )
        for ident, subject, action, category, statement, by, at, number in conn.execute(DECISIONS, (target, limit)).fetchall()
    ]
    appeals = [
        AppealView(
            id=ident, decision_id=decision, appellant_id=appellant, text=body, appealed_at=rfc3339(at), outcome=outcome,
            statement=statement, decided_by=by, decided_at=None if decided is None else rfc3339(decided),
        )
        for ident, decision, appellant, body, at, outcome, statement, by, decided in conn.execute(APPEALS, (target, limit)).fetchall()
    ]
    case = cases(conn, (target_id,)).get(target_id)
    found = conn.execute(SUBJECT, {"target": target}).fetchone()
    subject, content, media_ids, facts = (None, None, (), None) if found is None else found
    restricted = conn.execute(IS_RESTRICTED, {"target": target}).fetchone()
    return CaseView(
        target_id=target_id, number=0 if case is None else case.number, subject_id=subject, evidence=content,
        restricted=restricted != (False,), reports=tuple(reports), decisions=tuple(decisions), appeals=tuple(appeals),
        media_ids=tuple(media_ids), media=None if facts is None else read_media_row(facts).record,
    )
