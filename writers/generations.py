"""Which life of a topic this is: a topic that was recreated starts its next generation at offset 0."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from cluster.connections.postgres import connect, translated
from configs.settings import Settings

log = structlog.get_logger(__name__)

RECORD = """
INSERT INTO topic_generations AS stored (topic, topic_id, generation)
SELECT unnest(%s::text[]), unnest(%s::text[]), 1
ON CONFLICT (topic) DO UPDATE
SET topic_id = excluded.topic_id, generation = stored.generation + 1, recorded_at = now()
WHERE stored.topic_id <> excluded.topic_id
RETURNING topic, generation
"""


def present(settings: Settings) -> dict[str, int]:
    """Topic -> generation as it was recorded last. Raises DependencyUnavailable."""
    with connect(settings, "generations") as conn, translated():
        found = conn.execute("SELECT topic, generation FROM topic_generations").fetchall()
    return {topic: int(generation) for topic, generation in found}


def record(settings: Settings, topic_ids: Mapping[str, str]) -> dict[str, int]:
    """Topic -> present generation, after raising that of every topic whose id is new. Raises DependencyUnavailable."""
    with connect(settings, "generations") as conn, translated(), conn.transaction():
        raised = conn.execute(RECORD, (list(topic_ids), list(topic_ids.values()))).fetchall()
        known = conn.execute(
            "SELECT topic, generation FROM topic_generations WHERE topic = ANY(%s)", (list(topic_ids),)
        ).fetchall()
    for topic, generation in raised:
        log.info("generation_began", topic=topic, generation=generation)
    return {topic: int(generation) for topic, generation in known}
