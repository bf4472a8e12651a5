"""Replicas are replaced under load and nobody is refused."""

from __future__ import annotations

import asyncio

import pytest
from chaos.chatting import Chatting
from chaos.under_load import under_load
from running import Platform, sugar

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900), pytest.mark.usefixtures("undisturbed")]


def replicas(platform: Platform) -> dict[str, int]:
    return {replica["replica"]: replica["pid"] for replica in platform.status()["replicas"]}


async def test_every_replica_is_replaced_under_load_and_no_request_fails(platform: Platform) -> None:
    before = await asyncio.to_thread(replicas, platform)
    shards = {actor["name"]: actor["pid"] for actor in platform.status()["actors"]}

    async def roll() -> None:
        done = await asyncio.to_thread(sugar, "roll", "--again", "--data-dir", str(platform.data_dir), timeout_s=200)
        assert f"{len(before)} of {len(before)} replicas replaced" in done.stdout

    async with Chatting(platform, pairs=2, seed=31) as chatting:
        talking, sockets = asyncio.create_task(chatting.run()), chatting.connections
        workload = await under_load(platform, roll, seed=31, may_break=False, people=8)
        await chatting.finish()
        await talking
        assert chatting.connections == sockets, "no socket ends with a replica: none passes through Serve"
    refused = {status: count for status, count in workload.tally.statuses.items() if status >= 429}
    assert refused == {}, "nobody had to ask again"
    after = await asyncio.to_thread(replicas, platform)
    assert len(after) == len(before)
    assert not before.keys() & after.keys()
    assert not set(before.values()) & set(after.values())
    assert {actor["name"]: actor["pid"] for actor in platform.status()["actors"]} == shards, "shards stay"
    unchanged = await asyncio.to_thread(sugar, "roll", "--data-dir", str(platform.data_dir), timeout_s=100)
    assert "every replica runs this code" in unchanged.stdout
    assert await asyncio.to_thread(replicas, platform) == after
