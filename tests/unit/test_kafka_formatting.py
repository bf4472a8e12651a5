"""A start of the Kafka brokers that fails or is killed anywhere leaves what the next start goes on with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.embedded.process import ServerProcess
from cluster.engines import kafka
from cluster.engines.kafka import KafkaCluster
from configs.contracts.errors import DependencyUnavailable


class Killed(BaseException):
    """What a process is that no longer runs."""


class Java:
    """Stands for the storage tool: what it was asked to format, under which cluster id; ``meets`` its next calls."""

    def __init__(self) -> None:
        self.formatted: list[tuple[str, str]] = []
        self.meets: list[Callable[[], int]] = []

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--ignore-formatted" in command
        [cluster_id] = [part.removeprefix("--cluster-id=") for part in command if part.startswith("--cluster-id=")]
        properties = Path(command[command.index("-c") + 1])
        code = self.meets.pop(0)() if self.meets else 0
        self.formatted.append((properties.parent.name, cluster_id))
        return subprocess.CompletedProcess(command, code, "", "no space left")


def killed() -> int:
    raise Killed


@pytest.fixture
def java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Java:
    tool = Java()
    monkeypatch.setattr(kafka, "jars", lambda: tmp_path / "jars")
    monkeypatch.setattr(subprocess, "run", tool.run)
    monkeypatch.setattr(ServerProcess, "launch", lambda *_, **__: None)
    monkeypatch.setattr(ServerProcess, "wait_ready", lambda *_: None)
    return tool


def started(directory: Path) -> KafkaCluster:
    """By a process of its own: it knows what the directory says."""
    cluster = KafkaCluster(directory / "kafka", directory / "run")
    cluster.start()
    return cluster


def voters(cluster: KafkaCluster) -> set[str]:
    lines = [line for broker in cluster.brokers for line in broker.properties.read_text().splitlines()]
    return {line for line in lines if line.startswith("controller.quorum.voters=")}


def test_each_broker_is_formatted_once_under_one_id(tmp_path: Path, java: Java) -> None:
    url = started(tmp_path).url
    assert [number for number, _ in java.formatted] == ["1", "2", "3"]
    assert len({cluster_id for _, cluster_id in java.formatted}) == 1
    assert started(tmp_path).url == url
    assert len(java.formatted) == 3


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize(("way", "seen"), [(killed, Killed), (lambda: 1, DependencyUnavailable)])
def test_a_start_that_ended_while_it_formatted_is_gone_on_with(
    tmp_path: Path, java: Java, done: int, way: Callable[[], int], seen: type[BaseException],
) -> None:
    java.meets = [lambda: 0] * done + [way]
    with pytest.raises(seen):
        started(tmp_path)
    before = set(java.formatted)
    java.formatted.clear()
    cluster = started(tmp_path)
    assert [number for number, _ in java.formatted] == ["1", "2", "3"][done:], "none that was not formatted is taken for it"
    assert len({cluster_id for _, cluster_id in before | set(java.formatted)}) == 1, "brokers of two clusters refuse each other"
    [known] = voters(cluster)
    assert all(f"{broker.number}@{broker.place.host}:{broker.controller_port}" in known for broker in cluster.brokers)


def test_a_start_that_ended_before_it_formatted_anything_is_gone_on_with(tmp_path: Path, java: Java) -> None:
    (tmp_path / "kafka" / "2").mkdir(parents=True)
    (tmp_path / "kafka" / "2" / "unformatted.properties.new").write_text("listeners=CLI")
    assert len(voters(started(tmp_path))) == 1
    assert len(java.formatted) == 3
