"""A fault in the middle of traffic, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from chaos.check import verify
from chaos.workload import Workload
from running import Platform

BEFORE_S = 3.0
AFTER_S = 4.0


async def serves_again(workload: Workload, timeout_s: float = 120.0) -> float:
    """Seconds until every person was answered twice more: the first answer may have been on its way."""
    began = time.monotonic()
    before = {person.user_id: person.answered for person in workload.people}
    while waiting := [person.user_id for person in workload.people if person.answered < before[person.user_id] + 2]:
        assert time.monotonic() - began < timeout_s, f"no answers again for {len(waiting)} people: {workload.tally}"
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def under_load(platform: Platform, fault: Callable[[], Awaitable[None]], *, seed: int, may_break: bool, people: int = 30) -> Workload:
    await asyncio.to_thread(platform.wait_well)
    async with Workload(platform.url, people=people, seed=seed) as workload:
        traffic = asyncio.create_task(workload.run())
        await asyncio.sleep(BEFORE_S)
        await fault()
        took = await serves_again(workload)
        await asyncio.sleep(AFTER_S)
        workload.stop()
        await traffic
        tally = workload.tally
        print(f"answers {dict(tally.statuses)}, connection errors {tally.connection_errors}, bare 500 {tally.bare_500}, "
              f"served again after {took:.1f} s, longest wait {tally.longest_wait_s:.1f} s")
        if not may_break:
            assert tally.connection_errors == 0, "this fault may not break connections"
            assert tally.bare_500 == 0, "this fault may not end in the proxy's own error"
        await verify(platform, workload)
        return workload
