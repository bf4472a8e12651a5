"""What a running platform records about itself in ``<data dir>/run``, and how others find it."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field

from cluster.embedded.pids import began, still_runs
from cluster.launch.secrets import write_private
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings, load_settings, read_settings
from writers.generations import present

Phase = Literal["starting", "ready", "stopping"]


class State(BaseModel):
    """``run/state.json``; ports keep their values over restarts of anything."""

    model_config = ConfigDict(extra="ignore")

    supervisor_pid: int = Field(0, description="pid of `sugar up`")
    began: str = Field("", description="when it began (``pids.began``), to tell it from another with its pid")
    created_s: float = Field(0.0, description="the same in Unix seconds, as earlier releases told it")
    phase: Phase = "starting"
    step: str = Field("", description="what the start is doing now")
    started_s: float = Field(0.0, description="Unix seconds of the start")
    ready_s: float = Field(0.0, description="Unix seconds when it was last ready")
    ports: dict[str, int] = Field(default_factory=dict)
    pids: dict[str, int] = Field(default_factory=dict, description="processes that the supervisor started; of a server of several the others have a number: broker-2")
    restarts: dict[str, int] = Field(default_factory=dict, description="how often each was restarted")
    problem: str = Field("", description="why the last start failed")

    def running(self) -> bool:
        """Whether the recorded supervisor lives."""
        try:
            process = psutil.Process(self.supervisor_pid)
            return process.status() != psutil.STATUS_ZOMBIE and still_runs(self.supervisor_pid, self.began or self.created_s)
        except (psutil.Error, ValueError):
            return False


def server_of(name: str) -> str:
    """Which server a process in ``State.pids`` is of: broker-2 is the broker's."""
    server, _, number = name.rpartition("-")
    return server if number.isdecimal() else name


class ServerStatus(BaseModel):
    """A process that the supervisor started."""

    name: str
    pid: int
    runs: bool
    restarts: int
    memory_mib: int


def state_path(data_dir: Path) -> Path:
    return data_dir.resolve() / "run" / "state.json"


def settings_path(data_dir: Path) -> Path:
    """The resolved settings, with secrets, of the platform that runs on this directory (mode 0600)."""
    return data_dir.resolve() / "run" / "settings.json"


def read_state(data_dir: Path) -> State:
    """The recorded state; an empty one where nothing was recorded or the file cannot be read."""
    try:
        return State.model_validate(json.loads(state_path(data_dir).read_text()))
    except (OSError, ValueError):
        return State.model_validate({})


def write_state(data_dir: Path, state: State) -> None:
    write_private(state_path(data_dir), state.model_dump_json(indent=1))


def own_state(previous: State) -> State:
    """A fresh state of this process that keeps the previous one's ports."""
    return State(
        supervisor_pid=os.getpid(), began=began(os.getpid()), phase="starting", step="", ready_s=0.0,
        started_s=time.time(), ports=previous.ports, problem="",
    )


def running_settings(data_dir: Path) -> Settings:
    """The settings of the platform that runs on ``data_dir``; on a node of a cluster (``SUGAR_PROFILE=production``), of that one.

    Raises ConfigurationError: none runs there; the message says how to start one.
    """
    if not read_state(data_dir).running():
        if os.environ.get("SUGAR_PROFILE") == "production":
            settings = load_settings()
            log = settings.log.model_copy(update={"generations": present(settings)})
            return settings.model_copy(update={"log": log, "ray_address": os.environ.get("RAY_ADDRESS", "auto")})
        raise ConfigurationError(
            "no platform runs on this data directory; start one with `sugar up --detach --wait`", data_dir=str(data_dir)
        )
    return read_settings(settings_path(data_dir))


def api_root(data_dir: Path, settings: Settings) -> str:
    """Where an operator's tool reaches the API on this machine; on a node of a cluster, that node's proxy (the head has one)."""
    return f"http://127.0.0.1:{read_state(data_dir).ports.get('api', settings.port)}"


def servers_of(state: State) -> list[ServerStatus]:
    """The processes that the supervisor started, as they are now; the memory of each is that of its children too, but for
    those that are servers themselves."""
    own = set(state.pids.values())
    children: dict[int, list[psutil.Process]] = defaultdict(list)
    for process in psutil.process_iter(["ppid"]):  # once for all: every look at one's children reads all of /proc
        if process.pid not in own:
            children[process.info["ppid"]].append(process)
    return [_server(name, pid, state.restarts.get(name, 0), children[pid]) for name, pid in sorted(state.pids.items())]


def _server(name: str, pid: int, restarts: int, children: Sequence[psutil.Process]) -> ServerStatus:
    memory = 0
    runs = False
    try:
        process = psutil.Process(pid)
        runs = pid > 0 and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        memory = sum(map(_resident_bytes, [process, *children])) >> 20
    except (psutil.Error, ValueError):
        pass
    return ServerStatus(name=name, pid=pid, runs=runs, restarts=restarts, memory_mib=memory)


def _resident_bytes(process: psutil.Process) -> int:
    """0: it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
