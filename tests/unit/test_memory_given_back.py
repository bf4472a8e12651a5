"""Memory that is free goes back to the system: of Python's processes now and then, of HAProxy by its allocator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.embedded.process import wheel
from cluster.embedded.valkey import EmbeddedValkey
from cluster.launch import haproxy_wrapper
from cluster.launch.ray_head import ray_environment
from configs.settings import load_settings

PORTS = dict.fromkeys(("haproxy_metrics", "haproxy_stats", "replicas", "fallback_http", "fallback_grpc"), 1)
BATCH = """
import time
import psutil
from cluster.launch.bench.soak import of_its_own
from configs.process import give_back_memory

process = psutil.Process()
before = of_its_own(process)
{start}
batch = [bytearray(2_000) for _ in range(8_000)]
stays = bytearray(2_000)
assert of_its_own(process) - before > 14 * 2**20
del batch
until = time.monotonic() + {patience}
while (kept := of_its_own(process) - before) > 4 * 2**20 and time.monotonic() < until:
    time.sleep(0.02)
print(kept)
"""

BUFFER = """
import psutil
from cluster.launch.bench.soak import of_its_own
from configs.process import map_large_buffers

{start}
process = psutil.Process()
before = of_its_own(process)
buffers, stay = [], []
for _ in range(16):
    buffers.append(bytearray(2**20))
    stay.append(bytearray(100_000))
assert of_its_own(process) - before > 14 * 2**20
del buffers
print(of_its_own(process) - before)
"""
IN_A_THREAD = """
import threading
import psutil
from cluster.launch.bench.soak import of_its_own
from configs.process import map_large_buffers
from ctypes import CDLL

{start}
process = psutil.Process()
def batch():
    for _ in [bytearray(2_000) for _ in range(7_000)]:
        pass
of_its_own(process)
before = of_its_own(process)
for _ in range(2):
    thread = threading.Thread(target=batch)
    thread.start()
    thread.join()
CDLL(None).malloc_trim(0)
print(of_its_own(process) - before)
"""
CYCLE = """
import gc, time, weakref
from configs.process import give_back_memory

class Node: pass
gc.disable()
{start}
node = Node()
node.itself, gone = node, weakref.ref(node)
del node
until = time.monotonic() + {patience}
while gone() is not None and time.monotonic() < until:
    time.sleep(0.02)
print(gone() is None)
"""


@pytest.mark.parametrize(("start", "patience", "given_back"), [("", 0.5, False), ("give_back_memory(0.1)", 30.0, True)])
def test_what_a_batch_took_goes_back_although_something_newer_stays(start: str, patience: float, given_back: bool) -> None:
    assert (int(_run(BATCH.format(start=start, patience=patience))) < 4 * 2**20) == given_back


@pytest.mark.parametrize(("start", "given_back"), [("", False), ("map_large_buffers()", True)])
def test_large_buffers_go_back_at_once_although_something_newer_stays(start: str, given_back: bool) -> None:
    assert (int(_run(BUFFER.format(start=start))) < 4 * 2**20) == given_back


@pytest.mark.parametrize(("start", "given_back"), [("", False), ("map_large_buffers()", True)])
def test_the_end_of_the_heap_that_threads_share_goes_back_although_malloc_trim_does_not_look_there(start: str, given_back: bool) -> None:
    assert (int(_run(IN_A_THREAD.format(start=start))) < 4 * 2**20) == given_back


@pytest.mark.parametrize(
    ("start", "patience", "collected"), [("give_back_memory(0.1)", 0.5, "False"), ("give_back_memory(0.1, cycles=True)", 30.0, "True")]
)
def test_garbage_in_cycles_is_collected_where_that_was_asked_for(start: str, patience: float, collected: str) -> None:
    assert _run(CYCLE.format(start=start, patience=patience)).strip() == collected


def _run(script: str) -> str:
    """What it prints, in a process with the C library's settings of the platform's processes."""
    ours = {name: value for name, value in ray_environment(load_settings("test"), PORTS).items() if name.startswith("MALLOC_")}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, env=os.environ | ours
    ).stdout


@pytest.mark.parametrize("allocator", [str(wheel("ray") / "core" / "libjemalloc.so"), ""])
def test_haproxy_gets_the_allocator_that_was_named(tmp_path: Path, allocator: str) -> None:
    stand_in = tmp_path / "haproxy"
    stand_in.write_text('#!/bin/sh\necho "$LD_PRELOAD"; exec cat /proc/self/maps\n')
    stand_in.chmod(0o700)
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    ran = subprocess.run(
        [sys.executable, "-IS", haproxy_wrapper.__file__, str(stand_in), str(tmp_path), "1,2", allocator, "-db"],
        capture_output=True, text=True, check=True, timeout=30, env=environment,
    )
    assert ran.stdout.splitlines()[0] == allocator
    assert ("libjemalloc" in ran.stdout.split("\n", 1)[1]) == bool(allocator)


def test_valkey_has_the_allocator_that_it_is_made_for(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.start()
    try:
        assert "libjemalloc" in Path(f"/proc/{server.pid}/maps").read_text()
    finally:
        server.stop()
