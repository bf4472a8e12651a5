"""Decisions of the supervisor and the keeper, without a process: back-off, replacement, ports, keys."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from cluster.launch.backoff import FIRST_S, FORGIVEN_AFTER_S, LONGEST_S, Backoff
from cluster.launch.keeper import NEW_LIMIT_S, SILENT_LIMIT_S, STOPPED_LIMIT_S, Keeper
from cluster.launch.node import node_environment, release_of, run_node, worker_environment
from cluster.launch.ports import choose_ports
from cluster.launch.ray_head import environment, session_root
from cluster.launch.secrets import with_keys, write_private
from cluster.launch.state import State, api_root, own_state, read_state, running_settings, write_state
from configs.contracts.errors import ConfigurationError
from configs.settings import SETTINGS_VARIABLE, load_settings


def test_the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer() -> None:
    backoff = Backoff()
    now, waits = 0.0, []
    assert backoff.due(now)
    for _ in range(10):
        began = now
        while not backoff.due(now):
            now += 0.1
        waits.append(round(now - began))
    assert waits == sorted(waits)
    assert waits[0] <= 2 * FIRST_S
    assert waits[-1] == LONGEST_S


def test_two_quiet_minutes_are_forgiven() -> None:
    backoff = Backoff()
    now = 0.0
    for _ in range(20):
        backoff.due(now)
        now += LONGEST_S + 1
    now += FORGIVEN_AFTER_S
    assert backoff.due(now)
    assert backoff.due(now + FIRST_S + 0.01)


class Ping:
    """An actor's ``ping`` as Ray offers it: answers, refuses or hangs."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | BaseException | None = None

    def remote(self) -> Any:
        async def ask() -> dict[str, Any]:
            if isinstance(self.answer, BaseException):
                raise self.answer
            if self.answer is None:
                await asyncio.sleep(60)
            assert isinstance(self.answer, dict)
            return self.answer

        return ask()


class Handle:
    def __init__(self, ping: Ping) -> None:
        self.ping = ping


class Kept:
    """A keeper of one actor under a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ping = Ping()
        self.keeper = Keeper({"swipes-0": lambda: Handle(self.ping)}, clock=lambda: self.now)
        self.keeper.create_all()

    @property
    def report(self) -> Any:
        return self.keeper.reports()[0]

    async def probe(self) -> None:
        await self.keeper.probe_all()


async def test_an_actor_is_ready_only_when_it_answers_and_says_so() -> None:
    kept = Kept()
    kept.ping.answer = {"pid": os.getpid(), "ready": False}
    await kept.probe()
    assert not kept.keeper.ready
    kept.ping.answer = {"pid": os.getpid(), "ready": True}
    await kept.probe()
    assert kept.keeper.ready
    kept.ping.answer = ActorUnavailableError("restarting", None)
    await kept.probe()
    assert not kept.keeper.ready
    assert kept.report.replaced == 0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stops the process and returns once it is."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


@pytest.mark.parametrize(("stopped", "limit_s"), [(True, STOPPED_LIMIT_S), (False, SILENT_LIMIT_S)])
async def test_a_silent_process_is_killed_after_the_limit_and_not_before(
    sleeper: subprocess.Popen[bytes], stopped: bool, limit_s: float
) -> None:
    kept = Kept()
    if stopped:
        stop(sleeper)
    kept.ping.answer = {"pid": sleeper.pid, "ready": True}
    await kept.probe()
    kept.ping.answer = ActorUnavailableError("no answer", None)
    kept.now += limit_s - 0.1
    await kept.probe()
    assert sleeper.poll() is None
    kept.now += 0.2
    await kept.probe()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert kept.report.replaced == 1
    kept.now += limit_s + 1
    await kept.probe()
    assert kept.report.replaced == 1, "a new process has as long to start as the first one"


async def test_an_actor_that_never_answered_has_longer_to_start() -> None:
    kept = Kept()
    kept.ping.answer = ActorUnavailableError("starting", None)
    kept.now += NEW_LIMIT_S - 1
    await kept.probe()
    assert kept.report.replaced == 0


async def test_another_process_under_the_same_name_is_a_restart(sleeper: subprocess.Popen[bytes]) -> None:
    kept = Kept()
    for pid, restarts in ((os.getpid(), 0), (os.getpid(), 0), (sleeper.pid, 1), (os.getpid(), 2)):
        kept.ping.answer = {"pid": pid, "ready": True}
        await kept.probe()
        assert (kept.report.restarts, kept.report.replaced) == (restarts, 0)


async def test_a_recycled_pid_is_never_killed(sleeper: subprocess.Popen[bytes]) -> None:
    kept = Kept()
    kept.ping.answer = {"pid": sleeper.pid, "ready": True}
    await kept.probe()
    watched = kept.keeper.watched["swipes-0"]
    watched.process_began += "0"
    assert not kept.keeper._end_process(watched)
    assert sleeper.poll() is None


async def test_a_pid_of_another_machine_is_nobodys_here(sleeper: subprocess.Popen[bytes]) -> None:
    kept = Kept()
    kept.ping.answer = {"pid": sleeper.pid, "ready": True, "space": "another kernel/1"}
    await kept.probe()
    assert kept.report.pid == sleeper.pid, "status shows it as it is"
    stop(sleeper)
    assert not kept.keeper._end_process(kept.keeper.watched["swipes-0"])
    kept.ping.answer = ActorUnavailableError("no answer", None)
    kept.now += STOPPED_LIMIT_S + 1
    await kept.probe()
    assert kept.report.replaced == 0, "nobody here can see that it is stopped: it has the longer limit"
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.poll() is None


def test_shards_begin_anew_only_for_what_they_were_made_for(tmp_path: Path) -> None:
    def release(**overrides: object) -> str:
        return release_of(worker_environment(load_settings("test", data_dir=tmp_path, **overrides)))

    assert release() == release()
    assert release() == release(plan={"serve_replicas": 9}), "replicas come and go without them"
    assert release() != release(plan={"swipe_actors": 3}), "two that divide keys differently must not run together"
    assert release() != release(log={"generations": {"matching.swipe": 2}})
    assert release() != release(log={"partitions": 8})


def test_what_all_processes_agree_on_travels_by_variables_and_no_secret_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings("test", data_dir=tmp_path, log={"generations": {"matching.swipe": 2}, "partitions": 8},
                             plan={"swipe_actors": 3}, realtime={"ports": (8100, 8101)}, auth={"refresh_key": "ab" * 32}, database_url="postgresql://u:password@db")
    travels = worker_environment(settings)
    assert not [secret for secret in ("ab" * 32, "password") if secret in "".join(travels.values())]
    for name, value in travels.items():
        monkeypatch.setenv(name, value)
    there = load_settings()
    assert (there.profile, there.plan, there.log) == ("test", settings.plan, settings.log)
    assert there.realtime.ports == (8100, 8101)


def test_a_node_has_the_platforms_environment_and_keeps_what_the_operator_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "18404")
    found = node_environment(load_settings("test", data_dir=tmp_path))
    assert found["RAY_SERVE_HAPROXY_STATS_PORT"] == "18404"
    assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert SETTINGS_VARIABLE not in found, "a node reads its own environment"


def test_a_node_that_has_nothing_to_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERAY_GEN_RAY_START_CMD", raising=False)
    with pytest.raises(ConfigurationError, match="ray start"):
        run_node(load_settings("test", data_dir=tmp_path), [])


def test_ports_stay_the_same_and_move_only_when_taken(tmp_path: Path) -> None:
    settings = load_settings("test", data_dir=tmp_path, port=_free())
    first = choose_ports(settings, {})
    assert len(set(first.values())) == len(first)
    assert choose_ports(settings, first) == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["valkey"]))
        taken.listen()
        second = choose_ports(settings, first)
    assert second["valkey"] != first["valkey"]
    assert second["postgres"] == first["postgres"]


def test_the_api_port_is_never_moved(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = load_settings("test", data_dir=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="in use"):
            choose_ports(settings, {})


def test_keys_are_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    settings = with_keys(load_settings("test", data_dir=tmp_path))
    again = with_keys(load_settings("test", data_dir=tmp_path))
    assert (again.auth, again.payments) == (settings.auth, settings.payments)
    made = list((tmp_path / "secrets").iterdir())
    assert {path.name for path in made} == {
        "signing_key_pem", "refresh_key", "impression_key", "account_key", "url_key", "sandbox_key", "sandbox_webhook_secret",
        "callback_key",
    }
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
    assert settings.auth.signing_key_pem.get_secret_value() not in repr(settings)


def test_configured_keys_are_left_alone(tmp_path: Path) -> None:
    settings = load_settings("test", data_dir=tmp_path, auth={"refresh_key": "ab" * 32})
    assert with_keys(settings).auth.refresh_key.get_secret_value() == "ab" * 32
    assert not (tmp_path / "secrets" / "refresh_key").exists()


def test_a_private_file_is_never_readable_by_others_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "run" / "settings.json"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.json"]


def test_a_recycled_supervisor_pid_is_not_a_running_platform(tmp_path: Path) -> None:
    state = own_state(State())
    write_state(tmp_path, state)
    assert read_state(tmp_path).running()
    write_state(tmp_path, state.model_copy(update={"began": state.began + "0"}))
    assert not read_state(tmp_path).running()


def test_an_operators_tool_finds_the_api_where_a_platform_runs_and_on_a_node_of_a_cluster(tmp_path: Path) -> None:
    settings = load_settings("test", port=8123)
    assert api_root(tmp_path, settings) == "http://127.0.0.1:8123", "a node records nothing; its proxy has the settings' port"
    write_state(tmp_path, State.model_validate({"ports": {"api": 9001}}))
    assert api_root(tmp_path, settings) == "http://127.0.0.1:9001"
    with pytest.raises(ConfigurationError, match="sugar up"):
        running_settings(tmp_path)


def test_each_data_directory_has_short_paths_and_names_of_its_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one" / ("deep" * 30), tmp_path / "other"
    assert session_root(one) != session_root(other)
    assert len(str(session_root(one))) < 40
    ports = dict.fromkeys(("haproxy_metrics", "haproxy_stats", "replicas", "fallback_http", "fallback_grpc"), 1)
    ours = environment(load_settings("test", data_dir=one), ports)
    theirs = environment(load_settings("test", data_dir=other), ports)
    for name in ours:
        if name.startswith("RAY_SERVE_HAPROXY") and "/" in ours[name]:
            assert ours[name] != theirs[name], name


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
