"""Processes die one after another while people chat: nobody loses, doubles or mixes up a message."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest
from chaos.chatting import Chatting
from running import Platform

pytestmark = [pytest.mark.chaos, pytest.mark.platform, pytest.mark.timeout(600)]

PAIRS = 110
BETWEEN_S = 3.0
VICTIMS = ("gateway", "identity", "valkey", "writer")
"""Under the profile test the identity actors host the conversation shards, beside the sessions that issue tickets."""


async def test_killed_processes_lose_double_or_mix_up_no_message(platform: Platform) -> None:
    await asyncio.to_thread(platform.wait_well)
    async with Chatting(platform, pairs=PAIRS, seed=1) as chatting:
        await chatting.note_positions()
        talking = asyncio.create_task(chatting.run())
        for victim in VICTIMS:
            if victim == VICTIMS[-1]:
                await chatting.note_positions()  # of a read model that goes on from here
            await asyncio.sleep(BETWEEN_S)
            before = chatting.connections
            await asyncio.to_thread(platform.kill, victim, signal.SIGKILL)
            await asyncio.sleep(BETWEEN_S)
            await asyncio.to_thread(platform.wait_well)
            if victim == "gateway":  # it had half of the sockets
                async with asyncio.timeout(120):
                    while chatting.connections - before < PAIRS // 2:
                        await asyncio.sleep(0.1)
            print(f"{victim} killed: {chatting.connections - before} sockets opened again")
        await chatting.finish()
        await talking
        count = await asyncio.to_thread(chatting.check)
        synced = await chatting.check_sync()
        print(f"sync: {dict(synced)}")
        assert synced["messages"] >= PAIRS
        errors: Counter[str] = sum((talker.errors for talker in chatting.talkers), start=Counter())
        print(f"{count} acknowledged messages, error frames {dict(errors)}")
        assert count > PAIRS * 10
