"""A platform on a Redis Cluster: a primary may die under load, and what it held is made anew."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest
from chaos.under_load import under_load
from redis.exceptions import RedisError
from running import Platform, eventually, sugar

from cluster.connections.redis import sync_client
from cluster.connections.redis_cluster import ClusterRedis
from configs.contracts.read_model import GENERATION
from configs.settings import Settings
from writers import parts

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]


def whole(settings: Settings) -> bytes | None:
    """The read model's generation, if it is complete and every part says so of the server that holds it now."""
    try:
        with sync_client(settings) as client:
            assert isinstance(client, ClusterRedis)
            lives = parts.lives(client)
            markers: Any = client.mget(list(lives))
            generation: Any = client.get(GENERATION)
    except RedisError:
        return None
    return generation if all(lives.values()) and markers == [life.encode() for life in lives.values()] else None


async def test_a_killed_primary_under_load_loses_nothing_and_is_rebuilt_without_a_hand(platform: Platform) -> None:
    async def kill() -> None:
        # A part's first primary, unless a test before this one killed it: then its successor's other half is as good.
        os.kill(json.loads((platform.data_dir / "run" / "valkey-1.pid").read_text())["pid"], signal.SIGKILL)

    await asyncio.to_thread(platform.wait_well)
    before = await asyncio.to_thread(eventually, lambda: whole(platform.settings), 60.0)
    await under_load(platform, kill, seed=21, may_break=False)
    await asyncio.to_thread(platform.wait_well)
    await asyncio.to_thread(eventually, lambda: whole(platform.settings) not in (None, before), 120.0)
    report = await asyncio.to_thread(sugar, "reconcile", "--data-dir", str(platform.data_dir), timeout_s=120)
    assert "agree" in report.stdout
