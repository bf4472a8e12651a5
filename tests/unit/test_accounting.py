"""Every process of a server that consists of several is recorded and counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.launch.actors import names
from cluster.launch.bench.accounting import APART, SERVING, processes, usage
from cluster.launch.servers import EmbeddedServers
from cluster.launch.state import State, servers_of, write_state
from configs.settings import load_settings

NAMES = ("broker", "broker-2", "broker-3", "valkey", "valkey-6", "media_store")


@pytest.fixture
def running() -> Iterator[dict[str, int]]:
    """A process of each name."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])) for name in NAMES}
        yield {name: process.pid for name, process in started.items()}
        for process in started.values():
            process.kill()


def test_brokers_and_nodes_are_recorded_each_under_a_name_of_its_own(tmp_path: Path) -> None:
    servers = EmbeddedServers(load_settings("test", data_dir=tmp_path, broker="kafka", redis="cluster"))
    recorded = servers.pids()
    assert {name for name in recorded if name.startswith("broker")} == {"broker", "broker-2", "broker-3"}
    assert {name for name in recorded if name.startswith("valkey")} == {"valkey", *(f"valkey-{number}" for number in range(2, 7))}
    assert set(recorded.values()) == {0}, "none has been started"
    assert {name for name, _ in servers} < set(recorded)


def test_each_counts_for_its_server(tmp_path: Path, running: dict[str, int]) -> None:
    state = State(pids=running)
    write_state(tmp_path, state)
    counted = {(component, process.pid) for component, process in processes(tmp_path)}
    assert counted == {
        *(("broker", running[name]) for name in NAMES if name.startswith("broker")),
        *(("valkey", running[name]) for name in NAMES if name.startswith("valkey")), ("supervision", running["media_store"]),
    }
    found = usage(tmp_path)
    assert found.memory_mib["broker"] > found.memory_mib["valkey"] > 0
    assert {server.name for server in servers_of(state) if server.runs} == set(NAMES)


def test_every_kind_of_actor_that_a_plan_can_have_is_counted() -> None:
    plan = {f"{kind}_actors": 1 for kind in ("commerce", "message")}
    assert set(names(load_settings("test", plan=plan))) <= {*SERVING, *APART}
