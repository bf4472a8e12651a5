"""What a call of an actor costs, through Ray and over a line: ``python -m actors.sharding.measure [--rate 100] [--seconds 8]``.

A caller and an actor in two processes of a small Ray of this command's own; what both take while nothing happens is subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from actors.sharding.lines import Address, Door, Line

BODY_BYTES = 2_000
IDLE_S = 5.0


class Echo:
    """An actor that answers what it is sent."""

    def __init__(self) -> None:
        import ray

        self._door = Door(self.carry, ray.util.get_node_ip_address)

    async def carry(self, body: bytes) -> bytes:
        return body

    async def door(self) -> Address:
        return await self._door.address()

    async def pid(self) -> int:
        return os.getpid()


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measured(rate: float, seconds: float) -> dict[str, tuple[float, float]]:
    """Way -> microseconds of CPU a call: (the caller's, the actor's)."""
    import ray

    actor: Any = ray.remote(max_concurrency=1_000, num_cpus=0)(Echo).remote()
    sides = psutil.Process(), psutil.Process(await actor.pid.remote())
    line = await Line.to(await actor.door.remote())
    body = bytes(BODY_BYTES)

    async def spent(call: Callable[[], Awaitable[object]] | None, length: float) -> tuple[list[float], int]:
        before = [_seconds(side) for side in sides]
        began, calls = time.monotonic(), 0
        while (due := began + calls / rate) < began + length:
            if call is not None:
                await call()
            calls += 1
            await asyncio.sleep(max(0.0, due + 1 / rate - time.monotonic()))
        return [_seconds(side) - was for side, was in zip(sides, before, strict=True)], calls

    idle, rounds = await spent(None, IDLE_S)
    found: dict[str, tuple[float, float]] = {}
    for way, call in (("through Ray", lambda: actor.carry.remote(body)), ("over a line", lambda: line.ask(body))):
        await spent(call, 1.0)
        busy, calls = await spent(call, seconds)
        caller, callee = ((took / calls - rest / rounds) * 1e6 for took, rest in zip(busy, idle, strict=True))
        found[way] = (round(caller), round(callee))
    line.close()
    return found


def main(arguments: list[str]) -> None:
    """Prints the table and writes ``lines.json``."""
    parser = argparse.ArgumentParser(prog="python -m actors.sharding.measure", description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second, one after another")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each of the two runs")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="directory for the JSON")
    given = parser.parse_args(arguments)
    # As the platform's processes run: without a record of every call.
    os.environ |= {"RAY_task_events_report_interval_ms": "0", "RAY_event_stats": "0"}
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        found = asyncio.run(measured(given.rate, given.seconds))
    finally:
        ray.shutdown()
    table = Table("µs of CPU a call", "caller", "actor", "both", title=f"{given.rate:g} calls a second, {BODY_BYTES} bytes each way")
    for way, (caller, callee) in found.items():
        table.add_row(way, f"{caller:.0f}", f"{callee:.0f}", f"{caller + callee:.0f}")
    Console().print(table)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "lines.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
