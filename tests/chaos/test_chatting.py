"""A gateway, a conversation shard, Valkey or a writer dies while people chat: nobody loses, doubles or mixes anything up."""

from __future__ import annotations

import asyncio
import signal

import pytest
from chaos.chatting import Chatting
from running import Platform, eventually

pytestmark = [pytest.mark.chaos, pytest.mark.platform, pytest.mark.timeout(300)]

PAIRS = 50
BEFORE_S = 2.0
AFTER_S = 4.0


@pytest.mark.parametrize("component", ["gateway", "messages", "valkey", "writer"])
async def test_a_killed_process_loses_doubles_or_mixes_up_no_message(platform: Platform, component: str) -> None:
    await asyncio.to_thread(platform.wait_well)
    async with Chatting(platform, pairs=PAIRS, seed=1) as chatting:
        talking = asyncio.create_task(chatting.run())
        await asyncio.sleep(BEFORE_S)
        connections = sum(talker.client.connections for talker in chatting.talkers)
        await asyncio.to_thread(platform.kill, component, signal.SIGKILL)
        await asyncio.sleep(AFTER_S)
        await chatting.finish()
        await talking
        again = sum(talker.client.connections for talker in chatting.talkers) - connections
        if component == "gateway":
            assert again >= PAIRS // 4, "a gateway died and hardly anybody noticed"
        await asyncio.to_thread(platform.wait_well)
        await asyncio.to_thread(eventually, lambda: not sum(platform.status()["lag"]["rows"].values()), 60)
        count = await asyncio.to_thread(chatting.check)
        errors = sum((talker.errors for talker in chatting.talkers), start=type(chatting.talkers[0].errors)())
        print(f"{count} acknowledged messages, {again} sockets opened again, error frames {dict(errors)}")
        assert count > PAIRS * 10
