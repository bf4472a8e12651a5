"""Apache Kafka on loopback, as many KRaft brokers as wanted, each also a controller; from the official jars."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from cluster.embedded.ports import LOOPBACK, free_port, keep
from cluster.embedded.process import ServerProcess, accepts
from configs.contracts.errors import ConfigurationError, DependencyUnavailable

POM = Path(__file__).with_name("kafka.pom.xml")
CACHE = Path.home() / ".cache" / "sugar" / "kafka"
JVM = ("-Xms256m", "-Xmx256m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN")
"""Small and quick to start, for one machine; not what a production broker is given. The heap has its size from the start, so that a
broker's memory grows only by what leaks."""
BROKERS: Final = 3
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 3.0
FETCH_TIMEOUT_S = 600.0
PROPERTIES: Final = "server.properties"
UNFORMATTED: Final = "unformatted.properties"
CLUSTER_ID: Final = "cluster.id"


def jars(directory: Path = CACHE) -> Path:
    """The directory with Kafka's jars, fetched by Maven the first time and whenever the version changes.

    Raises ConfigurationError: Java or Maven is missing. DependencyUnavailable: Maven could not fetch them.
    """
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if "java" in missing or (missing and not directory.exists()):
        raise ConfigurationError("Apache Kafka needs Java 17 and Maven (apt-get install openjdk-17-jre-headless maven)", missing=missing)
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Two platforms may start at once.
    with directory.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetched = directory / "kafka.pom.xml"
        if fetched.exists() and fetched.read_bytes() == POM.read_bytes():
            return directory
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={directory}"],
            capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False,
        )
        if done.returncode:
            raise DependencyUnavailable("Maven could not fetch Apache Kafka", output=done.stdout[-2_000:])
        shutil.copy(POM, fetched)
        return directory


@dataclass(frozen=True, slots=True)
class Place:
    """Where a broker runs: the address that it has there, and what goes before its command."""

    host: str = LOOPBACK
    command: tuple[str, ...] = ()


@dataclass(slots=True)
class Broker:
    """One node: broker and controller."""

    number: int
    directory: Path
    port: int
    controller_port: int
    process: ServerProcess = field(repr=False)
    place: Place = field(default_factory=Place)

    @property
    def properties(self) -> Path:
        """There once the log's directory is formatted."""
        return self.directory / PROPERTIES

    @property
    def unformatted(self) -> Path:
        """The same until then."""
        return self.directory / UNFORMATTED


class KafkaCluster:
    """KRaft brokers on loopback that keep their logs on disk: what they acknowledged is there after a restart.

    ``protocol`` and ``listener``: of the listener that clients use, and more properties of it. ``users``: name -> password of
    those who sign in by SCRAM-SHA-512. ``places``: of the brokers, in order of their numbers, where they do not run on loopback.
    """

    keeps_log: Final = True

    def __init__(
        self, directory: Path, run_dir: Path, *, brokers: int = BROKERS, protocol: str = "PLAINTEXT",
        listener: Mapping[str, str] | None = None, users: Mapping[str, str] | None = None, places: Sequence[Place] = (),
    ) -> None:
        self.directory = directory.resolve()
        self._protocol = protocol
        self._listener = dict(listener or {})
        self._users = dict(users or {})
        self.brokers = [
            Broker(number, self.directory / str(number), *_ports(self.directory / str(number)), ServerProcess(f"broker-{number}", run_dir), place)
            for number, place in enumerate(places or [Place()] * brokers, 1)
        ]

    @property
    def pid(self) -> int | None:
        """The first broker's pid while all of them run; None: one has ended, ``start`` starts it again."""
        return self.pids[0] if None not in self.pids else None

    @property
    def pids(self) -> list[int | None]:
        """Each broker's; None: it has ended."""
        return [broker.process.pid for broker in self.brokers]

    @property
    def port(self) -> int:
        """The first broker's; the ports stay in the brokers' directories."""
        return self.brokers[0].port

    @property
    def url(self) -> str:
        """Clients' ``bootstrap.servers``."""
        return ",".join(f"{broker.place.host}:{broker.port}" for broker in self.brokers)

    def start(self) -> str:
        """Starts every broker that does not run; returns ``url`` once all accept connections.

        Raises ConfigurationError: no Java or Maven. DependencyUnavailable: a broker did not start.
        """
        classpath = f"{jars()}/*"
        new = [broker for broker in self.brokers if not broker.properties.exists()]
        # Each names the ports of all, so all are chosen for good before the first is formatted: a start may end anywhere.
        for broker in new:
            broker.directory.mkdir(parents=True, exist_ok=True)
            _write(broker.unformatted, self._properties(broker))
        for broker in new:
            self._format(broker, classpath)
        for broker in self.brokers:
            self._launch(broker, classpath)
        for broker in self.brokers:
            broker.process.wait_ready(lambda broker=broker: accepts(broker.port, host=broker.place.host), START_TIMEOUT_S)  # type: ignore[misc]  # a default in a lambda
        return self.url

    def restart(self, number: int) -> None:
        """Starts one broker again and returns once it accepts connections."""
        broker = self.brokers[number - 1]
        self._launch(broker, f"{jars()}/*")
        broker.process.wait_ready(lambda: accepts(broker.port, host=broker.place.host), START_TIMEOUT_S)

    def send(self, number: int) -> None:
        """Sends a signal to all brokers."""
        for broker in self.brokers:
            broker.process.send(number)

    def kill(self) -> None:
        """SIGKILL to all brokers. What they acknowledged is in the page cache and comes back."""
        for broker in self.brokers:
            broker.process.kill()

    def stop(self) -> None:
        """Asks all to end at the same time; who waits for others to take over its partitions is killed after a while."""
        for broker in self.brokers:
            broker.process.send(signal.SIGCONT)
            broker.process.send(signal.SIGTERM)
        for broker in self.brokers:
            broker.process.stop(timeout_s=STOP_TIMEOUT_S)

    def memory_bytes(self) -> int:
        """0: the log is on disk."""
        return 0

    def _launch(self, broker: Broker, classpath: str) -> None:
        if broker.process.pid is None:
            broker.process.launch(
                [*broker.place.command, "java", *JVM, "-cp", classpath, "kafka.Kafka", str(broker.properties)], cwd=broker.directory,
                env={name: value for name, value in os.environ.items() if name != "CLASSPATH"},
            )

    def _properties(self, broker: Broker) -> str:
        voters = ",".join(f"{each.number}@{each.place.host}:{each.controller_port}" for each in self.brokers)
        host = broker.place.host
        replicas = min(3, len(self.brokers))
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(broker.number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"CLIENTS://{host}:{broker.port},CONTROLLER://{host}:{broker.controller_port}",
            "advertised.listeners": f"CLIENTS://{host}:{broker.port}",
            "listener.security.protocol.map": f"CLIENTS:{self._protocol},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "log.dirs": str(broker.directory / "log"),
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(max(1, replicas - 1)),
            "offsets.topic.replication.factor": str(replicas),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(max(1, replicas - 1)),
            "transaction.state.log.num.partitions": "4",
            # A dead broker's partitions have new leaders after this long.
            "broker.session.timeout.ms": "6000",
            "replica.lag.time.max.ms": "10000",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "8388608",
            **self._listener,
        }
        return "".join(f"{name}={value}\n" for name, value in properties.items())

    def _format(self, broker: Broker, classpath: str) -> None:
        """What an earlier start has formatted already stays as it is."""
        done = subprocess.run(
            ["java", *JVM, "-cp", classpath, "kafka.tools.StorageTool", "format", "--ignore-formatted",
             f"--cluster-id={_cluster_id(self.directory)}", "-c", str(broker.unformatted),
             *(part for user, password in self._users.items() for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"))],
            capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False,
        )
        if done.returncode:
            raise DependencyUnavailable("Kafka's log directory could not be formatted", output=(done.stdout + done.stderr)[-2_000:])
        broker.unformatted.replace(broker.properties)


def _cluster_id(directory: Path) -> str:
    """Made once: brokers that were formatted with different ones refuse each other."""
    file = directory / CLUSTER_ID
    if not file.exists():
        _write(file, urlsafe_b64encode(uuid4().bytes).decode().rstrip("="))
    return file.read_text()


def _write(file: Path, text: str) -> None:
    """All of it or nothing."""
    written = file.with_name(f"{file.name}.new")
    written.write_text(text)
    written.replace(file)


def _ports(directory: Path) -> tuple[int, int]:
    """(clients' port, controllers' port) of a broker: those of its properties, since its peers know them."""
    files = [directory / name for name in (PROPERTIES, UNFORMATTED) if (directory / name).exists()]
    if not files:
        return free_port(), free_port()
    listeners = next(line for line in files[0].read_text().splitlines() if line.startswith("listeners="))
    clients, controllers = (keep(int(part.rsplit(":", 1)[1])) for part in listeners.split(","))
    return clients, controllers
