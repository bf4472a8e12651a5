"""What must hold before any shard or writer starts: the schema, the topics, their generations, where new consumers begin."""

from __future__ import annotations

from cluster.connections.topics import ensure_topics
from configs.contracts.topics import TOPICS
from configs.settings import Settings
from writers.generations import record
from writers.migrations import migrate
from writers.newcomers import begin_new


def prepare(settings: Settings) -> Settings:
    """Migrates, creates missing topics and returns the settings with every topic's present generation.

    A topic whose id is new (a broker that lost its log, another cluster) starts its next generation.
    Raises DependencyUnavailable: a server does not answer. PartitionCountMismatch: topics have another count.
    """
    migrate(settings)
    generations = record(settings, ensure_topics(settings, TOPICS))
    begin_new(settings)
    return settings.model_copy(update={"log": settings.log.model_copy(update={"generations": generations})})
