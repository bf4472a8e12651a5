"""One process dies or stops in the middle of traffic; nothing acknowledged is lost or doubled, and nobody need help."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress

import pytest
from chaos.under_load import under_load
from running import Platform, alive

pytestmark = [pytest.mark.chaos, pytest.mark.platform, pytest.mark.timeout(400)]

STOPPED_S = 20.0
IN_FLIGHT_MAY_BREAK = ("replica", "haproxy", "raylet", "gcs")
"""Only requests in flight on these may end in a connection error or the proxy's bare 500."""


@pytest.mark.parametrize(
    "component", ["swipes", "cards", "identity", "writer", "loader", "replica", "valkey", "postgres", "haproxy", "controller"]
)
async def test_a_killed_process_loses_nothing(platform: Platform, component: str) -> None:
    async def kill() -> None:
        platform.kill(component, signal.SIGKILL)

    await under_load(platform, kill, seed=1, may_break=component in IN_FLIGHT_MAY_BREAK)
    await asyncio.to_thread(platform.wait_well)


async def test_a_killed_ray_cluster_loses_nothing(platform: Platform) -> None:
    async def kill() -> None:
        pids = platform.pids()
        for pid in pids["raylet"] + pids["gcs"]:
            with suppress(ProcessLookupError):  # one of them ends the others
                os.kill(pid, signal.SIGKILL)

    await under_load(platform, kill, seed=2, may_break=True)
    await asyncio.to_thread(platform.wait_well)


@pytest.mark.parametrize("component", ["valkey", "postgres", "broker"])
async def test_a_server_that_stands_still_loses_nothing(platform: Platform, component: str) -> None:
    async def stop() -> None:
        pids = _with_children(platform.pids()[component][0])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(STOPPED_S)
        finally:
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGCONT)

    await under_load(platform, stop, seed=3, may_break=False)
    await asyncio.to_thread(platform.wait_well)


@pytest.mark.parametrize("component", ["swipes", "writer"])
async def test_a_process_that_stands_still_and_wakes_beside_its_replacement_loses_nothing(
    platform: Platform, component: str
) -> None:
    async def stop() -> None:
        pid = platform.kill(component, signal.SIGSTOP)
        deadline = time.monotonic() + 120
        while pid in platform.pids()[component]:
            assert time.monotonic() < deadline, f"{component} was not replaced"
            await asyncio.sleep(0.2)
        await asyncio.sleep(2.0)
        if alive(pid):
            os.kill(pid, signal.SIGCONT)

    await under_load(platform, stop, seed=4, may_break=False)
    await asyncio.to_thread(platform.wait_well)


def _with_children(pid: int) -> list[int]:
    import psutil

    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]
