"""A platform in a Ray cluster of three nodes that others started: deployed, deployed again, the head and a node lost under load.

The nodes are raylets of one machine, started as an operator starts them, and what the head must know is in a server of its own;
the log, rows and Redis are the embedded servers, since what is lost here is Ray's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from chaos.under_load import under_load
from ray.util import get_node_ip_address
from running import eventually

from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.valkey import EmbeddedValkey
from cluster.launch.node import COMMAND_VARIABLE
from cluster.launch.ports import REPLICA_PORTS, _block
from cluster.launch.ray_head import end_leftovers, session_root
from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.settings import SETTINGS_VARIABLE, Payments, Settings, load_settings

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900), pytest.mark.usefixtures("heavy")]

WORKERS = 2
IN_ORDER = True
"""The last test ends a node, which is not started again."""


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as an operator gives them to every node: by variables."""
    found = {}
    for name, value in json.loads(settings.dump()).items():
        alias = Settings.model_fields[name].validation_alias
        text = value if isinstance(value, str) else json.dumps(value)
        found[str(alias) if alias else f"SUGAR_{name.upper()}"] = text
    # What the deploying process resolves itself.
    del found["SUGAR_PLAN"], found["SUGAR_LOG"]
    return found


class Cluster:
    """Three nodes, what runs on them, and the command line in their environment."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = f"http://{LOOPBACK}:{settings.port}"
        self._root = session_root(settings.data_dir)
        ports = [free_port() for _ in range(6)]
        # Ray joins no second node to one on loopback.
        self._host = get_node_ip_address()
        self.address = f"{self._host}:{ports[0]}"
        self._dashboard = ports[1]
        first = _block(0)
        self.environment = {
            name: value for name, value in os.environ.items() if name not in (SETTINGS_VARIABLE, "SUGAR_BROKER")
        } | as_environment(settings) | {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "disabled",
            "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[2]), "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[3]),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[4]), "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports[5]),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICA_PORTS - 1),
            "COLUMNS": "200",
        }
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._head: list[str] = []
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep_head, daemon=True)
        self.head_state = EmbeddedValkey(settings.data_dir / "head-state")

    def sugar(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.launch.cli", "cluster", *arguments], env=self.environment, capture_output=True,
            text=True, timeout=240, check=False,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def deploy_by_job(self) -> str:
        """As the job on Kubernetes does: handed to the head over HTTP, by somebody who has none of the settings."""
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", f"http://127.0.0.1:{self._dashboard}", "--",
             sys.executable, "-m", "cluster.launch.cli", "cluster", "deploy"],
            env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")},
            capture_output=True, text=True, timeout=240, check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self) -> None:
        common = [f"--node-ip-address={self._host}", "--min-worker-port=0", "--max-worker-port=0",
                  "--object-store-memory=104857600", "--disable-usage-stats", "--block"]
        gcs = self.address.rpartition(":")[2]
        password = urlsplit(self.head_state.start()).password
        self._head = ["--head", f"--port={gcs}", f"--temp-dir={self._root}", "--num-cpus=0", "--include-dashboard=true",
                      f"--dashboard-port={self._dashboard}", "--no-monitor", f"--redis-password={password}", *common]
        self._start_head()
        self._keeper.start()
        # One by one: nodes that share a directory for their sockets take each other's names when they start at once.
        for number in range(1, 1 + WORKERS):
            self._node(number, [f"--address={self.address}", "--num-cpus=4", *common], as_kuberay=number == WORKERS)
            eventually(lambda number=number: self._joined(number), 150)

    def _keep_head(self) -> None:
        """Starts the head again whenever it has ended, as KubeRay does.

        It ends by itself too: Ray 2.60's GCS does ("All bundles must have the same node id") when a placement group is
        removed of which a bundle has moved since the head was started again.
        """
        while not self._stopping.wait(0.5):
            if self.nodes[0].poll() is not None:
                self._start_head()

    def _start_head(self) -> None:
        """The first time, or again under its address: in a container that knows nothing of the one before."""
        (self._root / "ray_current_cluster").unlink(missing_ok=True)
        self._node(0, self._head, RAY_REDIS_ADDRESS=f"{LOOPBACK}:{self.head_state.port}")
        eventually(lambda: self._joined(0) or self._stopping.is_set(), 150)

    def _node(self, number: int, arguments: list[str], *, as_kuberay: bool = False, **more: str) -> None:
        """``as_kuberay``: the command is where KubeRay leaves its own."""
        node = [sys.executable, "-m", "cluster.launch.cli", "cluster", "node"]
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments]
        command = node if as_kuberay else [*node, "--", *start]
        # RAY_ADDRESS would make the head join itself.
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"} | more
        if as_kuberay:
            environment[COMMAND_VARIABLE] = shlex.join(start)
        with (self.settings.data_dir / f"node-{number}.log").open("w") as log:
            self.nodes[number:number + 1] = [
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            ]

    def _joined(self, number: int) -> bool:
        return "Ray runtime started" in (self.settings.data_dir / f"node-{number}.log").read_text()

    def status(self) -> dict[str, Any]:
        text = self.sugar("status", "--json", check=False)
        return json.loads(text) if text.startswith("{") else {"well": False}

    def wait_well(self, timeout_s: float = 180.0) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def well() -> bool:
            nonlocal found
            found = self.status()
            return bool(found["well"])

        try:
            eventually(well, timeout_s, every_s=1.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; at last {found}") from error
        return found

    def processes(self, number: int) -> list[psutil.Process]:
        """A node's own processes, its workers included."""
        return psutil.Process(self.nodes[number].pid).children(recursive=True)

    def lose(self, number: int) -> set[int]:
        """Ends everything on a node at once; returns which pids those were."""
        node = self.nodes[number]
        lost = [psutil.Process(node.pid), *self.processes(number)]
        for process in lost:
            process.send_signal(signal.SIGSTOP)
        for process in lost:
            process.kill()
        node.wait(10)
        psutil.wait_procs(lost, timeout=10)
        return {process.pid for process in lost}

    def lose_head(self) -> None:
        """Returns when there is another."""
        lost = self.nodes[0]
        self.lose(0)
        eventually(lambda: self.nodes[0] is not lost and self._joined(0), 150)

    def stop(self) -> None:
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join(160)
        for node in self.nodes:
            node.kill()
        end_leftovers(self.settings.data_dir)
        for node in self.nodes:
            node.wait(10)
        self.head_state.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    data = tmp_path_factory.mktemp("nodes")
    servers = EmbeddedServers(with_keys(load_settings(
        "test", data_dir=data, port=free_port(), broker="memory", redis="single", log={"partitions": 16},
    )).model_copy(update={"payments": Payments()}))
    servers.start()
    settings = servers.settings()
    gateways = tuple(free_port() for _ in range(settings.plan.gateways))
    settings = settings.model_copy(update={"realtime": settings.realtime.model_copy(update={"ports": gateways})})
    made = Cluster(settings)
    try:
        made.start()
        made.sugar("deploy", "--timeout-s", "200")
        yield made
        made.sugar("remove")
    finally:
        made.stop()
        servers.stop()


def pids(status: dict[str, Any]) -> dict[str, int]:
    """Actor -> pid, replicas included."""
    return {actor["name"]: actor["pid"] for actor in status["actors"]} | {
        replica["replica"]: replica["pid"] for replica in status["replicas"]
    }


def test_deploying_again_moves_nothing_and_each_kind_is_spread_over_the_nodes(cluster: Cluster) -> None:
    running = pids(cluster.wait_well())
    assert "shards stay" in cluster.deploy_by_job()
    assert pids(cluster.wait_well()) == running
    head, *nodes = [{process.pid for process in cluster.processes(number)} for number in range(1 + WORKERS)]
    assert not head & set(running.values()), "a lost head would take it along"
    for kind in ("swipes", "identity", "writer"):
        where = [next(n for n, mine in enumerate(nodes) if running[f"{kind}-{slot}"] in mine) for slot in (0, 1)]
        assert sorted(where) == [0, 1], f"a lost node would take every {kind} actor with it"


async def test_a_head_that_starts_again_finds_every_actor_where_it_was(cluster: Cluster) -> None:
    before = pids(await asyncio.to_thread(cluster.wait_well))

    async def restart() -> None:
        await asyncio.to_thread(cluster.lose_head)

    began = time.monotonic()
    await under_load(cluster, restart, seed=22, may_break=True)  # type: ignore[arg-type]
    assert pids(await asyncio.to_thread(cluster.wait_well)) == before
    print(f"well again within {time.monotonic() - began:.0f} s, none of {len(before)} actors and replicas restarted")


async def test_a_lost_node_loses_nothing_and_its_shards_move(cluster: Cluster) -> None:
    lost: set[int] = set()
    before = pids(await asyncio.to_thread(cluster.wait_well))

    async def lose() -> None:
        lost.update(await asyncio.to_thread(cluster.lose, 1))

    began = time.monotonic()
    workload = await under_load(cluster, lose, seed=21, may_break=True)  # type: ignore[arg-type]
    after = pids(await asyncio.to_thread(cluster.wait_well))
    assert lost & set(before.values()), "the lost node held some of the platform"
    assert not lost & set(after.values())
    assert len(after) == len(before)
    moved = [name for name, pid in before.items() if pid in lost]
    print(f"{len(moved)} of {len(before)} moved in {time.monotonic() - began:.0f} s: {sorted(moved)}; "
          f"{sum(len(person.acknowledged) for person in workload.people)} swipes")
