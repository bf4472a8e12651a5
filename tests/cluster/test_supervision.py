"""The supervisor keeps a platform running, leaves nothing behind, and finds its data again."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from running import STOP_TIMEOUT_S, Platform, alive, eventually, sugar
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cluster.embedded.ports import free_port
from cluster.launch.ray_head import members, session_root
from cluster.launch.state import read_state
from configs.contracts.frames import RESTARTING

pytestmark = [pytest.mark.platform, pytest.mark.timeout(900)]

CREATE = "CREATE TABLE IF NOT EXISTS left_by_a_test (id int PRIMARY KEY)"


def answers(platform: Platform) -> bool:
    """Whether the API says that it and everything it needs is ready; on a busy machine one question may take too long."""
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{platform.url}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return bool(eventually(ready, 30))


def left_listening(ports: dict[str, int]) -> list[str]:
    """Names of the ports on which somebody listens; not a test beside this one, which may have been given a port that is free again."""
    this = psutil.Process()
    tests = this.parent() if "PYTEST_XDIST_WORKER" in os.environ else this
    listening: dict[int, int | None] = {
        place.laddr.port: place.pid for place in psutil.net_connections(kind="tcp")
        if place.laddr and place.status == psutil.CONN_LISTEN
    }

    def by_tests(pid: int | None) -> bool:
        try:
            return pid is not None and tests in (found := psutil.Process(pid), *found.parents())
        except psutil.NoSuchProcess:
            return True  # it ends

    return [name for name, port in ports.items() if port in listening and not by_tests(listening[port])]


@contextmanager
def opened_socket(platform: Platform) -> Iterator[ClientConnection]:
    """A realtime socket of a new person, open and ready."""
    with platform.client() as http:
        person = http.post("/auth/register", json={
            "email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse battery", "role": "sugar_baby",
            "displayName": "Ada", "birthDate": "1994-05-17",
        }).raise_for_status().json()
        ticket = http.post(
            "/messaging/ws-ticket", headers={"Authorization": f"Bearer {person['accessToken']}"}
        ).raise_for_status().json()
    with connect(f"{ticket['url']}?ticket={ticket['ticket']}") as socket:
        assert json.loads(socket.recv(timeout=20))["type"] == "ready"
        yield socket


def test_every_component_runs_and_status_says_so(platform: Platform) -> None:
    found = platform.wait_well()
    plan = platform.settings.plan
    kinds = [actor["name"].rsplit("-", 1)[0] for actor in found["actors"]]
    assert kinds.count("swipes") == plan.swipe_actors
    assert kinds.count("writer") == plan.writer_actors
    assert kinds.count("loader") == 1
    assert len(found["replicas"]) == plan.serve_replicas
    assert found["lag"]["rows"].keys() >= {"matching.swipe", "auth.accounts"}
    assert found["lag"]["derive"].keys() >= {"matching.matched"}
    eventually(lambda: all(platform.pids().values()), 30)
    assert answers(platform)


def test_the_table_names_every_actor(platform: Platform) -> None:
    platform.wait_well()
    # On a busy machine one of the runtime's questions may be answered too late: that status is told as well.
    shown = sugar("status", "--data-dir", str(platform.data_dir), check=False).stdout
    assert "swipes-0" in shown
    assert "writer-1" in shown
    assert "matching.swipe" in shown

    def well() -> Any:
        document = json.loads(sugar("status", "--json", "--data-dir", str(platform.data_dir), check=False).stdout)
        return document["well"] and document

    assert eventually(well, 60)["url"] == platform.url


def test_nothing_listens_beyond_loopback_but_replicas_internal_grpc(platform: Platform) -> None:
    platform.wait_well()
    replicas = set(platform.pids()["replica"])
    open_to_all = set()
    for process in platform.processes():
        with suppress(psutil.NoSuchProcess):  # short-lived ones are among them
            open_to_all |= {
                (process.pid, place.laddr.ip)
                for place in process.net_connections(kind="tcp")
                if place.status == "LISTEN" and place.laddr.ip not in ("127.0.0.1", "::ffff:127.0.0.1", "::1")
            }
    assert open_to_all, "Serve's own port is among them"
    # Serve binds this one port on every interface and has no setting for it.
    assert {pid for pid, _ in open_to_all} <= replicas


def test_a_second_up_on_the_same_directory_is_refused(platform: Platform) -> None:
    refused = sugar("up", "--profile", "test", "--port", "0", "--data-dir", str(platform.data_dir), check=False)
    assert refused.returncode == 1
    assert "already runs" in refused.stdout
    assert answers(platform)


def test_commands_without_a_platform_say_how_to_start_one(tmp_path: Path) -> None:
    refused = sugar("seed", "--users", "1", "--data-dir", str(tmp_path), check=False)
    assert refused.returncode == 1
    assert "sugar up" in refused.stdout
    assert not sugar("status", "--data-dir", str(tmp_path), check=False).stdout.startswith("Traceback")


def test_a_cluster_that_does_not_answer_is_told_at_once() -> None:
    """Ray by itself tries for a quarter of an hour; ``sugar`` has two minutes here."""
    refused = sugar("cluster", "status", "--address", f"127.0.0.1:{free_port()}", check=False)
    assert refused.returncode == 1
    assert "no Ray cluster answers" in refused.stdout


@pytest.mark.parametrize("component", ["runtime", "haproxy", "controller"])
def test_a_killed_part_comes_back_by_itself(platform: Platform, component: str) -> None:
    platform.wait_well()
    killed = platform.kill(component)
    eventually(lambda: platform.pids()[component] not in ([], [killed]), 120)
    platform.wait_well()
    assert answers(platform)


def test_an_actor_that_no_longer_answers_is_replaced(platform: Platform) -> None:
    before = {actor["name"]: actor for actor in platform.wait_well()["actors"]}
    stopped = before["cards-0"]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    def replaced() -> bool:
        found = {actor["name"]: actor for actor in platform.status()["actors"]}["cards-0"]
        return bool(found["ready"] and found["pid"] != stopped)

    eventually(replaced, 120)
    assert not alive(stopped)
    platform.wait_well()


def test_two_platforms_side_by_side_and_each_ends_without_a_trace(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # As a user starts it, which is also five processes fewer to start each time.
    other = Platform.start(tmp_path_factory.mktemp("other"), profile="local")
    try:
        assert answers(platform)
        assert answers(other)
        ours, theirs = read_state(platform.data_dir).ports, read_state(other.data_dir).ports
        assert not set(ours.values()) & set(theirs.values())
        assert session_root(platform.data_dir) != session_root(other.data_dir)
        with psycopg.connect(other.settings.database_url.get_secret_value(), autocommit=True) as connection:
            connection.execute(CREATE)
            connection.execute("INSERT INTO left_by_a_test VALUES (7)")

        everything = other.processes()
        os.kill(other.pids()["supervisor"][0], signal.SIGKILL)
        eventually(lambda: not [process for process in everything if alive(process.pid)], 60)
        assert not left_listening(theirs)
        assert answers(platform)

        # Ray dies during the start, as it does by itself on a machine too busy for its patience.
        def launched() -> int:
            state = read_state(other.data_dir)
            return state.pids.get("ray", 0) if state.running() and state.pids.get("runtime") else 0

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(other.up)
            os.kill(eventually(launched, 120), signal.SIGKILL)
            coming.result()
        assert answers(other)
        with psycopg.connect(other.settings.database_url.get_secret_value()) as connection:
            assert connection.execute("SELECT id FROM left_by_a_test").fetchall() == [(7,)]

        theirs = read_state(other.data_dir).ports
        supervisor = other.pids()["supervisor"][0]
        everything = other.processes()
        with opened_socket(other) as socket:
            os.kill(supervisor, signal.SIGINT)
            while (last := json.loads(socket.recv(timeout=30)))["type"] != "reconnect":
                pass
            assert last["afterMs"] >= 0
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=30)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == RESTARTING.code, "a stop does not send sockets elsewhere"
        eventually(lambda: not alive(supervisor), STOP_TIMEOUT_S)
        assert not [process for process in everything if alive(process.pid)]
        assert not members(other.data_dir)
        assert not left_listening(theirs)
        assert answers(platform)
    finally:
        other.stop()
