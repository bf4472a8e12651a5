"""`sugar` as an operator runs it, against an API of this process behind a port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import uvicorn
from api_world import World
from rich.console import Console
from typer.testing import CliRunner

from cluster.embedded.ports import free_port
from cluster.launch import moderating, payouts
from cluster.launch.cli import app
from cluster.launch.state import State, own_state, settings_path, write_state
from configs.settings import Settings


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed itself: this process's threads write to standard output too."""

    exit_code: int
    exception: BaseException | None
    output: str


Tool = Callable[..., Awaitable[Said]]


@asynccontextmanager
async def operator_tool(world: World, settings: Settings, directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tool]:
    """Runs commands of a platform that this process is; ``directory`` becomes its data directory."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(world.app, port=port, lifespan="off", log_level="critical"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    write_state(directory, own_state(State(ports={"api": port})))
    settings_path(directory).write_text(settings.dump())
    monkeypatch.setattr(moderating, "TIMEOUT_S", 60.0)

    async def run(*words: str) -> Said:
        printed = StringIO()
        for module in (moderating, payouts):
            monkeypatch.setattr(module, "console", Console(file=printed, width=200, highlight=False))
        ended = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--data-dir", str(directory)])
        return Said(ended.exit_code, ended.exception, printed.getvalue())

    yield run
    server.should_exit = True
    await task
