"""`sugar up`: starts everything in order, restarts what dies, and on a signal drains and ends all of it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

from cluster.embedded.process import ServerProcess, end_predecessors
from cluster.launch.backoff import Backoff
from cluster.launch.monitoring import write_monitoring
from cluster.launch.ports import choose_ports, gateway_names
from cluster.launch.prepare import prepare
from cluster.launch.ray_head import RayHead, end_leftovers, environment, observers_give_way, session_root
from cluster.launch.report import read_report
from cluster.launch.secrets import with_keys, write_private
from cluster.launch.servers import EmbeddedServers
from cluster.launch.state import own_state, read_state, settings_path, write_state
from configs.contracts.errors import ConfigurationError, DependencyUnavailable, PlatformError
from configs.settings import Settings

TICK_S = 0.2
DRAIN_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 300.0
"""Without any step forward. A guess: ten times what a quiet machine with two cores takes for all of them, for a busy one. A read model of
many people takes longer, but says how far it is."""

START_ATTEMPTS = 3


class Supervisor:
    """One platform on one data directory, from the main thread of a process that is not a Ray process.

    ``announce`` receives each step in plain words. The kernel ends the children with this process; the watchdog
    ends Ray's grandchildren.
    """

    def __init__(self, settings: Settings, announce: Callable[[str], None], *, demo_users: int = 0) -> None:
        self._configured = settings
        self._announce = announce
        self._demo_users = demo_users
        self._data = settings.data_dir.resolve()
        self._run = self._data / "run"
        self._lock: IO[str] | None = None
        self._stop_signal = 0
        self._backoff: dict[str, Backoff] = {}
        self._state = own_state(read_state(self._data))
        self._servers: EmbeddedServers | None = None
        self._ray: RayHead | None = None
        self._runtime = ServerProcess("runtime", self._run)
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._seeding: subprocess.Popen[bytes] | None = None
        self._unwritten = False
        """Whether the state file is older than ``_state``."""
        self._log_lost = False
        """Set until the topics of a broker that lost its log have begun their next generation."""

    def run(self, on_ready: Callable[[Settings], None]) -> None:
        """Returns after a signal, when everything has ended.

        Raises ConfigurationError: another platform runs here, or a port is taken. DependencyUnavailable: a server,
        Ray or the runtime did not start at all. Everything has ended then too.
        """
        self._take_lock()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            settings = self._start()
            if settings is not None:
                self._record(phase="ready", step="", ready_s=time.time())
                observers_give_way(self._data)
                on_ready(settings)
                self._supervise(settings)
        except PlatformError as error:
            self._record(problem=error.message)
            raise
        finally:
            self._end()

    # -- starting

    def _start(self) -> Settings | None:
        """Starts everything; None when a signal came meanwhile."""
        began = time.monotonic()
        self._step("looking for what an earlier run left")
        end_leftovers(self._data)
        # Before choosing ports: what an earlier run left may hold them.
        end_predecessors(self._run)
        configured = with_keys(self._configured)
        ports = choose_ports(configured, self._state.ports)
        self._record(ports=ports)
        self._start_watchdog()
        self._ray = RayHead(configured, ports)
        self._servers = EmbeddedServers(configured, ports)
        self._step(f"starting Ray and {', '.join(name for name, _ in self._servers) or 'no embedded server'}")
        self._ray.launch()
        self._servers.start()
        settings = self._prepare()
        self._step("starting shards, writers and the API")
        # It imports while Ray starts, and connects when Ray accepts.
        self._launch_runtime(settings)
        shown, shown_at, attempts = "", time.monotonic(), 1
        try:
            self._ray.wait_ready()
        except DependencyUnavailable:
            if self._ray.pid is not None:
                raise
        while (report := read_report(self._data, self._runtime.pid)) is None or not report.ready:
            if self._stop_signal:
                return None
            if time.monotonic() - shown_at > READY_TIMEOUT_S:
                raise DependencyUnavailable(
                    "the platform did not get ready", step=shown, log=str(self._runtime.log_path),
                    tail=self._runtime.log_tail(20),
                )
            if self._ray.pid is None or self._runtime.pid is None:
                attempts += 1
                # On a busy machine Ray gives its own start up after half a minute.
                what, process = ("Ray", self._ray.process) if self._ray.pid is None else ("the runtime", self._runtime)
                if attempts > START_ATTEMPTS:
                    raise DependencyUnavailable(f"{what} ended again and again", log=str(process.log_path), tail=process.log_tail(20))
                self._announce(f"{what} ended; starting it again")
                # Both: a Serve whose proxy did not start is half there, and a new runtime would wait for it in vain.
                self._start_ray(settings)
            if report is not None and report.step != shown:
                shown, shown_at = report.step, time.monotonic()
                self._step(shown)
            time.sleep(TICK_S)
        if self._demo_users and not self._seed():
            return None
        self._announce(f"ready after {time.monotonic() - began:.0f} s")
        return settings

    def _prepare(self) -> Settings:
        """Schema, topics, generations; writes the settings that every other process loads."""
        assert self._servers is not None
        assert self._ray is not None
        self._step("migrating the database, creating topics")
        resolved = self._servers.settings()
        gateways = tuple(self._state.ports[name] for name in gateway_names(resolved))
        settings = prepare(resolved.model_copy(update={
            "ray_address": self._ray.address, "dashboard_port": self._state.ports["dashboard"], "data_dir": self._data,
            "realtime": resolved.realtime.model_copy(update={"ports": gateways}),
        }))
        write_private(settings_path(self._data), settings.dump())
        write_monitoring(self._data, self._state.ports["metrics_export"])
        return settings

    def _launch_runtime(self, settings: Settings) -> None:
        self._runtime.launch(
            [sys.executable, "-m", "cluster.launch.runtime"], env=environment(settings, self._state.ports),
            cwd=session_root(self._data),
        )
        self._record_pids()

    def _start_watchdog(self) -> None:
        # Ends by itself when the pipe does; it must not get the signals that end the others.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "cluster.launch.watchdog", str(self._data)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def _seed(self) -> bool:
        """Loads the demo population once a data directory; False when a signal came meanwhile."""
        marker = self._data / "demo-population"
        if marker.exists():
            return True
        self._step(f"loading a demo population of {self._demo_users} people")
        self._seeding = subprocess.Popen(
            [sys.executable, "-m", "cluster.launch.cli", "seed", "--users", str(self._demo_users),
             "--data-dir", str(self._data)],
            start_new_session=True,
        )
        while self._seeding.poll() is None:
            if self._stop_signal:
                self._seeding.terminate()
                return False
            time.sleep(TICK_S)
        if self._seeding.returncode != 0:
            raise DependencyUnavailable("the demo population could not be loaded", exit_code=self._seeding.returncode)
        marker.write_text(f"{self._demo_users}\n")
        return True

    # -- supervising

    def _supervise(self, settings: Settings) -> None:
        while not self._stop_signal:
            if self._unwritten:
                self._record()
            try:
                settings = self._mend(settings)
            except (DependencyUnavailable, OSError) as error:
                # A restart that failed is tried again after its back-off.
                self._record(problem=str(error) if isinstance(error, OSError) else error.message)
                self._announce(f"not yet: {self._state.problem}")
            time.sleep(TICK_S)

    def _mend(self, settings: Settings) -> Settings:
        """One look at everything; restarts what has ended and may be started again by now."""
        assert self._servers is not None
        assert self._ray is not None
        broker = self._servers.broker
        if self._log_lost:
            return self._after_lost_log() if self._may_restart("broker") else settings
        for name, server in self._servers:
            if server.pid is None and self._may_restart(name):
                if server is broker and not broker.keeps_log:
                    return self._after_lost_log()
                self._announce(f"{name} ended; starting it again")
                server.start()
                self._record_pids()
        if self._ray.pid is None and self._may_restart("ray"):
            self._announce("Ray ended; starting it again")
            self._start_ray(settings)
        elif self._runtime.pid is None and self._ray.pid is not None and self._may_restart("runtime"):
            self._announce("the runtime ended; starting it again")
            self._launch_runtime(settings)
        return settings

    def _after_lost_log(self) -> Settings:
        """The embedded broker's log is gone: its topics begin a new generation, which every process must know.

        Ray ends first: a shard that appended to the new log under the old generation would number its versions wrong.
        """
        assert self._servers is not None
        assert self._ray is not None
        self._announce("the broker ended and its log with it; starting the next generation")
        self._log_lost = True
        self._runtime.kill()
        self._ray.stop()
        self._servers.start()
        settings = self._prepare()
        self._log_lost = False
        self._start_ray(settings)
        return settings

    def _start_ray(self, settings: Settings) -> None:
        assert self._ray is not None
        self._runtime.kill()
        self._ray.stop()
        self._ray.launch()
        self._launch_runtime(settings)
        self._ray.wait_ready()
        observers_give_way(self._data)
        self._step("")

    def _may_restart(self, name: str) -> bool:
        """Whether the back-off of a component has passed; counts the restart when it has."""
        if not self._backoff.setdefault(name, Backoff()).due(time.monotonic()):
            return False
        self._record(restarts=self._state.restarts | {name: self._state.restarts.get(name, 0) + 1})
        return True

    # -- ending

    def _end(self) -> None:
        self._record(phase="stopping")
        if self._seeding is not None and self._seeding.poll() is None:
            self._seeding.terminate()
        if self._runtime.pid is not None:
            self._announce("draining: no new requests, writers finish")
            self._runtime.stop(signal.SIGTERM, DRAIN_TIMEOUT_S)
        if self._ray is not None:
            self._announce("stopping Ray and the servers")
            self._ray.stop()
        if self._servers is not None:
            self._servers.stop()
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.wait(30)
        self._record(pids={}, supervisor_pid=0)
        settings_path(self._data).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    # -- recording

    def _take_lock(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (self._run / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise ConfigurationError("a platform already runs on this data directory", data_dir=str(self._data)) from error

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_signal = number

    def _step(self, step: str) -> None:
        if step:
            self._announce(step)
        self._record(step=step)

    def _record_pids(self) -> None:
        pids = self._servers.pids() if self._servers else {}
        pids |= {"ray": (self._ray.pid if self._ray else 0) or 0, "runtime": self._runtime.pid or 0, "supervisor": os.getpid()}
        self._record(pids=pids)

    def _record(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)
        if self._lock is None:
            return
        try:
            write_state(self._data, self._state)
            self._unwritten = False
        except OSError as error:
            # A full disk must not end what runs; it is written once there is room.
            if not self._unwritten:
                self._announce(f"the state cannot be written: {error}")
            self._unwritten = True

