"""mail_requested -> mails: what was to be sent to whom, without its text; the consumer ``mail`` sends it."""

from __future__ import annotations

from collections.abc import Sequence

from configs.contracts.events import MailRequested
from writers import columns
from writers.records import Fact
from writers.sinks.base import Cursor, Sink, hash_as_id

INSERT = """
INSERT INTO mails (email_hash, id, user_id, template, requested_at, version)
SELECT * FROM unnest(%s, %s, %s, %s, %s, %s)
ON CONFLICT (email_hash, id) DO NOTHING
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    payloads = [fact.event.payload for fact in facts]
    cur.execute(
        INSERT,
        (
            columns.uuids([hash_as_id(payload.email_hash) for payload in payloads]),
            columns.uuids([payload.mail_id for payload in payloads]),
            columns.uuids([payload.user_id for payload in payloads]),
            columns.texts(payload.template for payload in payloads),
            columns.timestamps([fact.event.occurred_at for fact in facts]),
            columns.bigints([fact.version for fact in facts]),
        ),
    )
    return len(facts)


SINK = Sink("mails", (MailRequested,), write)
