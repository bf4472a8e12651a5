"""Shared fixtures: real servers for integration tests, a whole platform for end-to-end and failure tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Platform

from cluster.launch.secrets import with_keys
from cluster.launch.servers import EmbeddedServers
from configs.settings import Settings, load_settings


def _start(data_dir: Path) -> EmbeddedServers:
    servers = EmbeddedServers(with_keys(load_settings("test", data_dir=data_dir)))
    servers.start()
    return servers


@pytest.fixture(scope="session")
def running_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """PostgreSQL, Valkey and the broker, empty: no table, no topic. Do not stop or kill them."""
    servers = _start(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def servers(running_servers: EmbeddedServers) -> Settings:
    """Settings (profile test) of servers that are migrated and hold every topic; shared by the whole session.

    Tests use ids of their own and expect rows, keys and records of others.
    """
    from cluster.launch.prepare import prepare

    return prepare(running_servers.settings())


@pytest.fixture
def fresh_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], EmbeddedServers]]:
    """Makes servers of one's own, to kill, stop and restart; ``prepare(servers.settings())`` fills them."""
    made: list[EmbeddedServers] = []

    def make() -> EmbeddedServers:
        made.append(_start(tmp_path_factory.mktemp("servers")))
        return made[-1]

    yield make
    for servers in made:
        servers.stop()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One whole platform (profile test), shared by the session; leave it running and well.

    Failure tests may kill its processes; they wait until ``status()`` is well again.
    """
    running = Platform.start(tmp_path_factory.mktemp("platform"))
    yield running
    running.stop()
