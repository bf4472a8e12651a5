"""Presence is told to whoever may know it, whichever shard of conversations is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from test_realtime_hub import connected

from actors.messages.commands import Member, NoConversation
from actors.realtime import watching
from actors.realtime.hub import Hub
from actors.realtime.presence import Presences, Seen
from actors.realtime.watching import Watching
from cluster.connections.cluster_fanout import Hearing
from configs.contracts.errors import ShardUnavailable


class Conversations:
    """One conversation of each other person with the watcher; those in ``away`` are on a shard that does not answer."""

    def __init__(self) -> None:
        self.away: set[str] = set()

    async def look(self, conversation_id: str, user_id: str) -> Member | NoConversation:
        if conversation_id in self.away:
            raise ShardUnavailable("restoring")
        return Member(f"other of {conversation_id}", 7, 0, 0)


class Everybody:
    """Presences in which everybody is as ``seen`` says."""

    seen = Seen(False, "today")

    async def look(self, people: Sequence[str]) -> list[Seen]:
        return [self.seen] * len(people)


class Channels:
    async def add(self, channel: str) -> None:
        """Heard."""

    def remove(self, channel: str) -> None:
        """Not heard any more."""


async def test_a_shard_that_is_away_keeps_nobody_elses_presence_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TOLD_EVERY_S", 0.0)
    conversations, everybody, hub = Conversations(), Everybody(), Hub()
    told = Watching(conversations, cast(Presences, everybody), cast(Hearing, Channels()))
    socket, peer = connected(hub, "ada")
    await told.watch(socket, ["one", "two"])
    told.start()
    conversations.away = {"one"}
    everybody.seen = Seen(True, "today")

    async def heard(count: int) -> list[Any]:
        async with asyncio.timeout(5):
            while len(peer.got) < count:
                await asyncio.sleep(0.01)
        return peer.got

    peer.got.clear()
    for name in ("one", "two"):
        told.changed(f"other of {name}")
    assert b"other of two" in (await heard(1))[0]
    # It was not forgotten, nor was the conversation taken for ended.
    conversations.away = set()
    told.changed("other of two")
    assert b"other of one" in (await heard(2))[1]
    assert set(socket.watching) == {"one", "two"}
    await told.close()
