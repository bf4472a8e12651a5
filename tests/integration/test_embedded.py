"""The embedded servers are real ones: what they promise to keep they keep, and nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from cluster.connections.topics import ensure_topics
from cluster.embedded.process import accepts
from cluster.launch.servers import EmbeddedServers
from configs.contracts.topics import TOPICS

pytestmark = pytest.mark.servers


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_committed_rows_survive_a_killed_postgres_on_the_same_address(
    fresh_servers: Callable[[], EmbeddedServers],
) -> None:
    postgres = fresh_servers().postgres
    assert postgres is not None
    before = postgres.url
    with psycopg.connect(before, autocommit=True) as connection:
        connection.execute("CREATE TABLE facts (id int PRIMARY KEY)")
        connection.execute("INSERT INTO facts VALUES (1)")
        postgres.kill()
    assert postgres.start() == before
    with psycopg.connect(before) as connection:
        assert connection.execute("SELECT id FROM facts").fetchall() == [(1,)]


def test_postgres_refuses_a_wrong_password(running_servers: EmbeddedServers) -> None:
    postgres = running_servers.postgres
    assert postgres is not None
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://sugar:wrong@127.0.0.1:{postgres.port}/sugar", connect_timeout=5)


def test_valkey_refuses_writes_when_full_and_asks_for_a_password(running_servers: EmbeddedServers) -> None:
    valkey = running_servers.valkey
    assert valkey is not None
    with redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with redis.Redis(port=valkey.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_a_restarted_broker_gives_its_topics_new_ids(fresh_servers: Callable[[], EmbeddedServers]) -> None:
    servers = fresh_servers()
    broker = servers.broker
    assert broker is not None
    settings = servers.settings()
    first = ensure_topics(settings, TOPICS)
    assert ensure_topics(settings, TOPICS) == first
    broker.kill()
    broker.start()
    second = ensure_topics(settings, TOPICS)
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())


PARENT = """
import pathlib, sys, time
from cluster.launch.servers import EmbeddedServers
from cluster.launch.secrets import with_keys
from configs.settings import load_settings
servers = EmbeddedServers(with_keys(load_settings("test", data_dir=pathlib.Path(sys.argv[1]))))
servers.start()
print(*(server.pid for _, server in servers), flush=True)
time.sleep(600)
"""


def test_servers_die_with_a_killed_parent_and_the_next_start_finds_the_rows(
    tmp_path: Path, fresh_servers: Callable[[], EmbeddedServers]
) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        alive = [lives(pid) for pid in pids]
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert alive == [True] * 7, "PostgreSQL, Valkey, broker, mailbox, media store, payments sandbox and age assurance"
    deadline = time.monotonic() + 60
    while any(lives(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if lives(pid)]


def test_a_stopped_server_frees_its_port(fresh_servers: Callable[[], EmbeddedServers]) -> None:
    servers = fresh_servers()
    ports = servers.ports()
    assert all(accepts(port) for port in ports.values())
    servers.stop()
    assert not any(accepts(port) for port in ports.values())
