"""A platform on a Redis Cluster: a primary may die under load, and what it held is made anew."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
from chaos.under_load import under_load
from running import Platform, sugar

pytestmark = [pytest.mark.platform, pytest.mark.timeout(400)]


async def test_a_killed_primary_under_load_loses_nothing_and_is_rebuilt_without_a_hand(platform: Platform) -> None:
    async def kill() -> None:
        # A part's first primary, unless a test before this one killed it: then its successor's other half is as good.
        os.kill(json.loads((platform.data_dir / "run" / "valkey-1.pid").read_text())["pid"], signal.SIGKILL)

    await under_load(platform, kill, seed=21, may_break=False)
    await asyncio.to_thread(platform.wait_well)
    data = str(platform.data_dir)
    await asyncio.to_thread(sugar, "cache", "rebuild", "--data-dir", data, timeout_s=120)
    await asyncio.to_thread(platform.wait_well)
    report = await asyncio.to_thread(sugar, "reconcile", "--data-dir", data, timeout_s=120)
    assert "agree" in report.stdout
