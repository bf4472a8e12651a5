"""Conversation shards in actors of their own die while people chat, on Apache Kafka and Redis Cluster."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest
from chaos.chatting import Chatting
from running import Platform

pytestmark = [pytest.mark.chaos, pytest.mark.platform, pytest.mark.timeout(900)]

PAIRS = 40
KILLS = 2
BETWEEN_S = 3.0


async def test_a_killed_conversation_shard_loses_doubles_and_mixes_up_no_message_and_ends_no_socket(platform: Platform) -> None:
    assert platform.settings.plan.message_actors == len(platform.pids()["messages"]) == 2
    await asyncio.to_thread(platform.wait_well)
    async with Chatting(platform, pairs=PAIRS, seed=2) as chatting:
        await chatting.note_positions()
        talking = asyncio.create_task(chatting.run(pause_s=0.5))
        connections = chatting.connections
        for _ in range(KILLS):
            await asyncio.sleep(BETWEEN_S)
            killed = await asyncio.to_thread(platform.kill, "messages", signal.SIGKILL)
            await asyncio.sleep(BETWEEN_S)
            await asyncio.to_thread(platform.wait_well)
            assert killed not in platform.pids()["messages"]
        assert chatting.connections == connections, "gateways and sessions live on"
        await chatting.finish()
        await talking
        count = await asyncio.to_thread(chatting.check)
        synced = await chatting.check_sync()
        errors: Counter[str] = sum((talker.errors for talker in chatting.talkers), start=Counter())
        print(f"{count} acknowledged messages, error frames {dict(errors)}, sync {dict(synced)}")
        assert count > PAIRS * 10
        assert synced["messages"] == count * 2, "both sides of each are told of each"
