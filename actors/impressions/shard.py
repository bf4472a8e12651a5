"""The service of impression shards: facts about shown cards, made durable in matching.cards_served. It remembers nothing."""

from __future__ import annotations

from actors.impressions.commands import Append, Shown
from actors.sharding.appends import AppendService
from cluster.connections.kafka import Record
from configs.contracts.ids import partition_of
from configs.contracts.topics import MATCHING_CARDS_SERVED


class ImpressionService(AppendService[Append]):
    """Appends without a turn: the order of two facts of one viewer means nothing."""

    def records(self, command: Append) -> list[Record]:
        return [record_of(fact, self._partitions) for fact in command.facts]


def record_of(fact: Shown, partitions: int) -> Record:
    """The fact as it stands in the log."""
    return Record(MATCHING_CARDS_SERVED.name, partition_of(fact.viewer_id, partitions), fact.viewer_id, fact.value)
