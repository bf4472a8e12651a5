"""The service of impression shards: facts about shown cards, made durable in matching.cards_served. It remembers nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from actors.impressions.commands import Append, Shown
from actors.sharding.appends import AppendService
from cluster.connections.kafka import Record
from configs.contracts.events import Event, encode
from configs.contracts.ids import partition_of
from configs.contracts.topics import MATCHING_CARDS_SERVED

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ImpressionService(AppendService[Append]):
    """Appends without a turn: the order of two facts of one viewer means nothing."""

    def records(self, command: Append) -> list[Record]:
        return [record_of(fact, self._partitions) for fact in command.facts]


def record_of(fact: Shown, partitions: int) -> Record:
    """The fact as it stands in the log."""
    viewer = fact.payload.viewer_id
    event = Event(fact.event_id, _EPOCH + timedelta(microseconds=fact.occurred_at_us), viewer, fact.payload)
    return Record(MATCHING_CARDS_SERVED.name, partition_of(viewer, partitions), viewer, encode(event))
