"""A conversation's service on a simulated log, with rows that a test puts there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from simulated_log import SimulatedAppender, SimulatedLog, SimulatedTail

from actors.messages.commands import MarkRead, SendMessage
from actors.messages.preparing import Admit, Unknown, everything, no_media
from actors.messages.shard import MessageService
from cluster.connections.kafka import Record
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.events import Event, Matched, Unmatched, encode
from configs.contracts.ids import match_id, new_id, pair, partition_of
from configs.contracts.loading import ConversationRow
from configs.contracts.topics import MATCHING_MATCHED, MESSAGING_MESSAGE_READ, MESSAGING_MESSAGE_SENT
from configs.settings import Limits, Log, Plan, Settings

LOW, HIGH = pair(new_id(), new_id())
CONVERSATION = match_id(LOW, HIGH)
PARTITIONS = 2


class Rows:
    """A loader without rows, but those that a test puts there."""

    def __init__(self) -> None:
        self.rows: dict[str, ConversationRow] = {}
        self.counts: list[tuple[str, int, str]] = []
        self.epochs = 0
        self.older: dict[int, bytes] = {}
        self.by_id: dict[str, bytes] = {}
        self.asked_older = 0
        self.looked_for: list[str] = []
        self.away = False
        self.stored = 0
        """The version of the last message in rows."""

    async def positions(self, topics: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        return {}

    async def claim_epochs(self, kind: str, shards: Sequence[int]) -> Mapping[int, int]:
        self.epochs += 1
        return dict.fromkeys(shards, self.epochs)

    async def conversations(self, conversation_ids: Sequence[str]) -> Mapping[str, ConversationRow]:
        return {name: self.rows[name] for name in conversation_ids if name in self.rows}

    async def older_requests(self, places: Sequence[tuple[str, int]]) -> Sequence[tuple[int, bytes]]:
        self.asked_older += 1
        return [
            (self.stored, b"".join(entry[:8] for seq, entry in self.older.items() if seq < before))
            for _, before in places
        ]

    async def sent(self, places: Sequence[tuple[str, str]]) -> Sequence[tuple[int, bytes]]:
        if self.away:
            raise DependencyUnavailable("away")
        self.looked_for += [ident for _, ident in places]
        return [(self.stored, self.by_id.get(ident, b"")) for _, ident in places]

    async def ordinals(self, places: Sequence[tuple[str, int, str]]) -> Sequence[tuple[int, int]]:
        self.counts += places
        return [(self.stored, seq // 2) for _, seq, _ in places]


class World:
    def __init__(self, *, append_deadline_ms: int = 30_000, **limits: int) -> None:
        self.settings = Settings(
            profile="test", plan=Plan(), log=Log(partitions=PARTITIONS, append_deadline_ms=append_deadline_ms),
            limits=Limits(**{"messages_per_conversation_a_minute": 1_000} | limits),
        )
        self.log = SimulatedLog()
        self.rows = Rows()
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.died: list[str] = []
        self.lives: list[tuple[MessageService, SimulatedAppender]] = []
        self.admit: Admit = everything
        self.unknown: Unknown = no_media

    async def start(self) -> MessageService:
        appender = SimulatedAppender(self.log)
        service = MessageService(
            settings=self.settings, shards=range(PARTITIONS), appender=appender, loader=self.rows,  # type: ignore[arg-type]
            die=self.died.append, clock=lambda: self.now, admit=self.admit, unknown=lambda sent: self.unknown(sent),
            tail=lambda feeds, label: SimulatedTail(self.log, feeds, label),  # type: ignore[arg-type, return-value]
        )
        self.lives.append((service, appender))
        await service.start()
        return service

    @property
    def service(self) -> MessageService:
        return self.lives[-1][0]

    @property
    def appender(self) -> SimulatedAppender:
        return self.lives[-1][1]

    def recorded(self, payload: Matched | Unmatched) -> int:
        """As the pair's authority appends it."""
        event = Event(new_id(), self.now, payload.match_id, payload)
        partition = partition_of(payload.match_id, PARTITIONS)
        record = Record(MATCHING_MATCHED.name, partition, payload.match_id, encode(event))
        return self.log.append([record])[0]

    def match(self, generation: int = 1) -> None:
        self.recorded(Matched(match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=generation))

    def unmatch(self) -> None:
        self.recorded(Unmatched(
            match_id=CONVERSATION, low_id=LOW, high_id=HIGH, generation=1, ended_by=LOW, reason="unmatched"
        ))

    async def send(self, sender: str = LOW, request: str | None = None, content: str = "hello") -> Any:
        [answer] = await self.service.send([SendMessage(CONVERSATION, sender, request or new_id(), content)])
        return answer

    async def read(self, reader: str, seq: int) -> Any:
        [answer] = await self.service.read([MarkRead(CONVERSATION, reader, seq)])
        return answer

    def messages(self) -> list[Any]:
        return [event.payload for _, _, event in self.log.events(MESSAGING_MESSAGE_SENT.name)]

    def marks(self) -> list[Any]:
        return [event.payload for _, _, event in self.log.events(MESSAGING_MESSAGE_READ.name)]

    async def close(self) -> None:
        for service, _ in self.lives:
            await service.close()
