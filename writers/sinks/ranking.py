"""ranking_configured -> ranking_configurations: one row a configuration, the first of its number."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from configs.contracts.errors import InvalidEvent
from configs.contracts.events import RankingConfigured
from configs.contracts.ranking import ConfigurationRefused, checked
from writers.records import Fact
from writers.sinks.base import Cursor, Sink

INSERT = """
INSERT INTO ranking_configurations (number, document, event_id, reason, configured_at, version)
SELECT %(number)s, %(document)s::jsonb, %(event_id)s::uuid, %(reason)s, %(at)s, %(version)s
WHERE %(number)s > coalesce((SELECT max(number) FROM ranking_configurations), 0)
ON CONFLICT (number) DO NOTHING
"""


def write(cur: Cursor, facts: Sequence[Fact]) -> int:
    """Changes are rare: one statement each, in the order of the log."""
    rows = 0
    for event, version, _ in facts:
        configuration = event.payload.configuration
        try:
            checked(configuration)
        except ConfigurationRefused as error:
            raise InvalidEvent(error.message, **error.details) from error
        cur.execute(INSERT, {
            "number": configuration.number, "document": msgspec.json.encode(configuration).decode(),
            "event_id": event.event_id, "reason": event.payload.reason, "at": event.occurred_at, "version": version,
        })
        rows += cur.rowcount
    return rows


SINK = Sink("ranking", (RankingConfigured,), write)
