"""A conversation shard stands still, is replaced, and wakes in the middle of traffic."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from dataclasses import dataclass
from typing import Any

import pytest
from api_world import EPOCHS, Handle
from log_reading import records_of
from log_writing import append, record
from message_world import counted
from shard_process import ShardProcess, host

from actors.messages.client import ConversationsClient
from actors.messages.commands import Member, SendMessage, Sent
from actors.sharding.client import ActorPool
from actors.sharding.host import SLEPT_S
from actors.sharding.wire import RemoteActor
from cluster.connections.kafka import LogAppender
from configs.contracts.errors import ShardUnavailable
from configs.contracts.events import Matched
from configs.contracts.ids import match_id, new_id, pair, partition_of
from configs.contracts.topics import MATCHING_MATCHED, MESSAGING_MESSAGE_SENT
from configs.settings import Settings

pytestmark = pytest.mark.servers


@dataclass
class Replica:
    """A client that has heard of no other life of the shard than the one it asks."""

    name: str
    client: ConversationsClient
    pool: ActorPool
    handle: Any

    @classmethod
    def of(cls, settings: Settings, name: str, handle: Any) -> Replica:
        holder: list[Replica] = []
        pool = ActorPool(settings, resolve=lambda actor: RemoteActor(holder[0].handle))
        holder.append(cls(name, ConversationsClient(pool), pool, handle))
        return holder[0]

    async def send(self, conversation: str, sender: str, request: str) -> Any:
        return await self.client.send(SendMessage(conversation, sender, request, f"text of {request}"))

    async def sent(self, conversation: str, sender: str, request: str) -> Sent:
        """As a client does: the same request until it is acknowledged."""
        async with asyncio.timeout(60):
            while True:
                try:
                    answer = await self.send(conversation, sender, request)
                except ShardUnavailable:
                    await asyncio.sleep(0.05)
                    continue
                assert isinstance(answer, Sent)
                return answer


@pytest.mark.parametrize("slept_s", [SLEPT_S, float("inf")], ids=["it notices", "the log tells it"])
async def test_a_shard_that_wakes_beside_its_replacement_acknowledges_nothing_that_does_not_stand(
    servers: Settings, slept_s: float
) -> None:
    # A shard that begins no actor of the session's: those would take the lives of this test for their own.
    low, high, conversation, shard = next(
        (*members, match_id(*members), shard) for members in iter(lambda: pair(new_id(), new_id()), None)
        if (shard := partition_of(match_id(*members), servers.log.partitions)) >= servers.plan.identity_actors
    )
    await append(servers, record(
        servers, MATCHING_MATCHED, conversation, Matched(match_id=conversation, low_id=low, high_id=high, generation=1)
    ))
    newest = multiprocessing.get_context("spawn").Value("i", EPOCHS["messages"])
    EPOCHS["messages"] += 2
    frozen = ShardProcess(servers, shard, newest, slept_s)
    appender, ended = LogAppender(servers, "successor"), list[str]()
    successor = host(servers, shard, newest, appender, ended.append)
    try:
        await frozen.start()
        unaware = Replica.of(servers, "unaware", frozen)
        acknowledged = {request: await unaware.sent(conversation, low, request) for request in ("a1", "a2")}
        os.kill(frozen.pid, signal.SIGSTOP)
        await asyncio.sleep(3.0)
        aware = Replica.of(servers, "aware", Handle(successor))
        async with asyncio.timeout(60):
            while not (await successor.ping())["ready"]:
                await asyncio.sleep(0.02)
        assert isinstance(await aware.client.look(conversation, low), Member)
        waiting = [asyncio.create_task(unaware.send(conversation, low, f"b{number}")) for number in range(3)]
        await asyncio.sleep(0.1)
        acknowledged["c"] = await aware.sent(conversation, high, "c")
        os.kill(frozen.pid, signal.SIGCONT)
        acknowledged["d"] = await aware.sent(conversation, high, "d")
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert not [answer for answer in answers if not isinstance(answer, ShardUnavailable)], "the replaced shard answered"
        assert await frozen.ended() == 1, "the replaced shard lives on"
        unaware.handle = aware.handle
        for number in range(3):
            acknowledged[f"b{number}"] = await unaware.sent(conversation, low, f"b{number}")
        for request, first in list(acknowledged.items()):
            sender = high if request in "cd" else low
            again = await aware.sent(conversation, sender, request)
            assert (again.seq, again.message_id) == (first.seq, first.message_id)
        events = await asyncio.to_thread(records_of, servers, MESSAGING_MESSAGE_SENT.name, conversation)
        standing = [fact.event.payload for fact in counted([(event, place) for place, event in enumerate(events)])]
        assert [payload.seq for payload in standing] == list(range(1, len(acknowledged) + 1))
        assert {payload.client_message_id: payload.seq for payload in standing} == {
            request: answer.seq for request, answer in acknowledged.items()
        }
        assert not ended
    finally:
        await frozen.close()
        await successor.close()
        await asyncio.to_thread(appender.close)
