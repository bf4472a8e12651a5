"""Two platforms that start at the same moment agree about who has which port."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.embedded.pids import began
from cluster.embedded.ports import PORTS, _given, claim, free_port
from cluster.engines.kafka import PROPERTIES, KafkaCluster
from cluster.engines.valkey import ValkeyCluster
from cluster.launch.ports import choose_ports
from cluster.launch.servers import EmbeddedServers
from configs.settings import load_settings

OTHER = "import sys; from cluster.embedded.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"


def test_a_port_that_another_process_chose_and_did_not_bind_yet_is_not_chosen(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        theirs = int(other.stdout.readline())
        assert not claim(theirs)
        assert free_port(theirs) != theirs
        settings = load_settings("test", data_dir=tmp_path, port=free_port())
        assert choose_ports(settings, {"dashboard": theirs})["dashboard"] != theirs
        other.stdin.close()
    assert claim(theirs), "its process has ended"
    assert claim(theirs)
    assert choose_ports(settings, {"dashboard": theirs})["dashboard"] == theirs


def test_what_a_process_claimed_is_not_kept_by_another_that_has_its_number_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert claim(12_345)
    (claimed,) = tmp_path.glob("sugar-ports-*/12345")
    pid, since = os.getppid(), began(os.getppid())
    claimed.write_text(f"{pid} {since}")
    assert not claim(12_345)
    claimed.write_text(f"{pid} {since}0")
    assert claim(12_345)


def test_no_port_is_one_that_the_next_outgoing_connection_may_take() -> None:
    assert all(free_port() in PORTS for _ in range(100))


def test_no_port_is_given_twice_though_nobody_has_bound_it_yet() -> None:
    given = [free_port() for _ in range(400)]
    assert len(set(given)) == len(given)
    assert free_port(given[0]) == given[0], "unless it is asked for"


def test_what_a_stopped_broker_wants_again_is_given_to_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings("test", data_dir=tmp_path, port=free_port()).model_copy(update={"broker": "kafka", "redis": "cluster"})
    wanted = [free_port() for _ in range(6)]
    for number in range(3):
        broker = tmp_path / "kafka" / str(number + 1)
        broker.mkdir(parents=True)
        clients, controllers = wanted[2 * number : 2 * number + 2]
        (broker / PROPERTIES).write_text(f"listeners=CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controllers}\n")
    _given.difference_update(wanted)  # a process of today did not choose them
    monkeypatch.setattr("random.sample", lambda ports, tries: [*wanted, *ports])
    servers = EmbeddedServers(settings)
    assert isinstance(servers.broker, KafkaCluster)
    assert isinstance(servers.valkey, ValkeyCluster)
    assert [port for broker in servers.broker.brokers for port in (broker.port, broker.controller_port)] == wanted
    assert not set(wanted) & {port for node in servers.valkey.nodes for port in (node.port, node.bus_port)}
