"""`sugar bench sockets` and `sugar bench delivery`: what a socket costs, how quickly sockets open and come back, and how
quickly a message gets from one to another."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

from actors.realtime.actor import url_of
from cluster.connections.postgres import connect
from cluster.launch.bench import measure, requests
from cluster.launch.bench.accounting import SERVING, usage
from cluster.launch.report import read_report
from cluster.launch.state import running_settings
from configs.contracts.errors import ConfigurationError
from configs.contracts.ids import match_id
from configs.contracts.realtime import DEVICES
from configs.settings import Settings

console = Console(highlight=False)
RESULTS: Final = Path("bench-results")
SPARE: Final = 500
"""Descriptors that a gateway and a generator need beside sockets."""
BYTES_A_SOCKET: Final = 40 * 1_024
BACK_A_SECOND: Final = 1_000


def sockets(
    data_dir: Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Data directory of the platform.")] = Path(".sugar"),
    idle: Annotated[int, typer.Option(help="Sockets that only answer pings.", min=1)] = 10_000,
    active: Annotated[int, typer.Option(help="Of these send a frame every second.", min=1)] = 2_000,
    seconds: Annotated[float, typer.Option(help="How long they do.", min=2, max=120)] = 15,
) -> None:
    """Idle and active sockets, and the return of all after a gateway was killed. Needs a tenth as many people."""
    settings = running_settings(data_dir)
    people = _people(settings, idle)
    count = _possible(settings, idle)
    with _generator(settings, people, count) as ask:
        before = _memory(data_dir)
        opened = ask({"do": "open", "at_once": 100})
        after = _memory(data_dir)
        bytes_a_socket = (after - before) / max(opened["opened"], 1)
        console.print(f"opened {opened}; {bytes_a_socket / 1_024:.1f} KiB a socket")
        spent = usage(data_dir)
        talked = ask({"do": "talk", "sockets": min(active, count), "seconds": seconds})
        cost = usage(data_dir).since(spent).get("gateway", 0.0) / max(talked["answered"], 1) * 1_000
        console.print(f"talked {talked}; gateways {cost:.4f} CPU-s per 1,000 frames (keepalive pings of all included)")
        spent = usage(data_dir)
        os.kill(_pids(data_dir)[0], signal.SIGKILL)
        back = ask({"do": "lose"})
        back["cpu_s"] = {name: round(value, 2) for name, value in usage(data_dir).since(spent).items() if value >= 0.05}
        console.print(f"killed a gateway: {back}")
        ask({"do": "close"})
    _report(count, opened, bytes_a_socket, talked, cost, back)


def _people(settings: Settings, sockets_wanted: int) -> list[requests.Caller]:
    needed = -(-sockets_wanted // DEVICES)
    with connect(settings, "bench") as conn:
        ids = [
            row[0] for row in conn.execute(
                "SELECT id::text FROM users WHERE role IS NOT NULL ORDER BY id LIMIT %s", (max(needed, 2_000),)
            ).fetchall()
        ]
    if len(ids) < needed:
        raise ConfigurationError("bench needs more people: run `sugar seed`", people=len(ids), needed=needed)
    return requests.callers(settings, ids)


def _possible(settings: Settings, wanted: int) -> int:
    """How many sockets the limits of this machine and of the gateways allow; says where it stops."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = min(hard - SPARE, settings.realtime.sockets) * settings.plan.gateways
    possible = min(wanted, held, hard - SPARE)
    if possible < wanted:
        console.print(
            f"{wanted} sockets do not fit: a process may hold {hard} descriptors (ulimit -Hn), {settings.plan.gateways} "
            f"gateways hold {held}; measuring {possible}"
        )
    return possible


def _pids(data_dir: Path) -> list[int]:
    report = read_report(data_dir)
    return [actor.pid for actor in (report.actors if report else []) if actor.name.startswith("gateway-") and actor.pid]


def _memory(data_dir: Path) -> int:
    """Bytes that belong to the gateways alone (unique set size: what ends with them)."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in _pids(data_dir))


@contextmanager
def _generator(settings: Settings, people: list[requests.Caller], count: int) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.json"
        spec.touch(mode=0o600)
        spec.write_text(json.dumps({
            "api_port": settings.port, "urls": [url_of(settings, slot) for slot in range(settings.plan.gateways)],
            "tokens": [person.token for person in people], "sockets": count,
        }))
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster.launch.bench.socket_load", str(spec)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        commands, answers = process.stdin, process.stdout

        def ask(command: dict[str, Any]) -> Any:
            commands.write(json.dumps(command) + "\n")
            commands.flush()
            answer = answers.readline()
            if not answer:
                raise ConfigurationError("the socket generator ended", exit_code=process.poll())
            return json.loads(answer)

        try:
            yield ask
        finally:
            commands.close()
            process.terminate()
            process.wait(10)


def delivery(
    data_dir: Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Data directory of the platform.")] = Path(".sugar"),
    pairs: Annotated[int, typer.Option(help="Conversations, each of two connected people.", min=1, max=1_000)] = 200,
    seconds: Annotated[float, typer.Option(help="Length of each run.", min=2, max=120)] = 15,
) -> None:
    """Messages from socket to socket, over two gateways when there are two: the peak, then half of it with open loop."""
    settings = running_settings(data_dir)
    people = _people(settings, 2 * pairs * DEVICES)[: 2 * pairs]
    conversations = asyncio.run(_matched(settings, people))
    noop = measure.bare_noop()
    console.print(f"bare uvicorn + FastAPI + pydantic POST: {noop:.3f} CPU-s per 1,000")
    runs = {}
    with _generator(settings, people, 2 * pairs) as ask:
        console.print(f"opened {ask({'do': 'open', 'at_once': 50})}")
        chosen = [(conversation, 2 * number, 2 * number + 1) for number, conversation in enumerate(conversations)]
        peak = 0.0
        for title, share in (("closed loop", 0.0), ("half peak", 0.5)):
            spent = usage(data_dir)
            found = ask({"do": "chat", "pairs": chosen, "rate": peak * share, "seconds": seconds})
            used = usage(data_dir).since(spent)
            thousands = max(found["acknowledged"], 1) / 1_000
            found["cpu_s_per_1000"] = {name: round(value / thousands, 4) for name, value in used.items()}
            found["serving_cpu_s_per_1000"] = round(sum(used[name] for name in SERVING) / thousands, 3)
            peak = peak or found["rate"]
            runs[title] = found
            console.print(f"{title}: {found}")
        ask({"do": "close"})
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "delivery.json"
    path.write_text(json.dumps({"noop_cpu_s_per_1000": round(noop, 4), **runs}, indent=1))
    console.print(f"written to {path}")


async def _matched(settings: Settings, people: list[requests.Caller]) -> list[str]:
    """The conversations of neighbours in the list, who like each other now if they did not before."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}/api/v1", timeout=20.0) as client:
        gate = asyncio.Semaphore(16)

        async def like(one: requests.Caller, other: requests.Caller) -> None:
            async with gate:
                answer = await client.post(
                    "/matching/swipe", json={"targetUserId": other.user_id, "action": "like"},
                    headers={"Authorization": f"Bearer {one.token}"},
                )
                answer.raise_for_status()

        both = list(zip(people[::2], people[1::2], strict=True))
        await asyncio.gather(*(like(one, other) for one, other in both))
        await asyncio.gather(*(like(other, one) for one, other in both))
        # A conversation's shard hears of a match within moments.
        await asyncio.sleep(3.0)
        return [match_id(one.user_id, other.user_id) for one, other in both]


def _report(
    count: int, opened: dict[str, Any], bytes_a_socket: float, talked: dict[str, Any], cost: float, back: dict[str, Any]
) -> None:
    table = Table("figure", "value", "aim", title=f"{count} sockets")
    table.add_row("opened", f"{opened['opened']} at {opened['rate']:.0f}/s", "")
    table.add_row("memory of the gateways a socket", f"{bytes_a_socket / 1_024:.1f} KiB", f"≤ {BYTES_A_SOCKET / 1_024:.0f} KiB")
    table.add_row("active sockets, one frame a second each", f"{talked['sockets']}: p50 {talked['p50_ms']} ms, p99 {talked['p99_ms']} ms", "")
    table.add_row("gateways' CPU for 1,000 frames", f"{cost:.3f} s", "")
    table.add_row("back after the death of a gateway", f"{back['rate']:.0f}/s, the first after {back['first_back_after_s']} s", f"≥ {BACK_A_SECOND}/s")
    table.add_row("all back", f"after {back['all_back_after_s']} s ({back['lost']} lost)", "")
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "sockets.json"
    path.write_text(json.dumps(
        {"opened": opened, "bytes_a_socket": round(bytes_a_socket), "talked": talked, "cpu_s_per_1000": round(cost, 4), "back": back},
        indent=1,
    ))
    console.print(f"written to {path}")
