"""`sugar bench shard` and `sugar bench restart`: what a shard costs in memory and time, and how soon it is back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import httpx
import numpy as np
import ray
import typer
from rich.console import Console
from rich.table import Table

from actors.cards.client import CardsClient
from actors.cards.commands import DeckQuery, Shortlist
from actors.cards.crowds import disc, history, reciprocal, rows_at, world
from actors.cards.measure import BYTES_A_PERSON, P99_MS, SEEN_SHARE, measured, viewers
from actors.cards.state import Cards
from actors.sharding.client import ActorPool
from actors.sharding.host import Build, Service, remote_host
from actors.sharding.wire import RemoteActor
from actors.swipes.person import Person
from cluster.connections.postgres import connect
from cluster.connections.spans import Spans
from cluster.launch.bench import requests
from cluster.launch.report import read_report
from cluster.launch.state import running_settings
from configs.contracts.errors import ConfigurationError
from configs.process import quieten_collector
from configs.settings import Plan, Settings, load_settings
from recommender.baseline import Baseline
from writers.loads.swipes import OWN_RECORD, person_rows

console = Console(highlight=False)
RAY_P99_MS: Final = 25.0
RESTORE_S: Final = 3.0
BACK_S: Final = 5.0
ASK_EVERY_S: Final = 0.1
ASKING: Final = 40
"""Requests under way at most: each may be held for some seconds."""
SETTLED_S: Final = 8.0
"""Asked for at least so long, so that whoever was asked before the loss was noticed is counted too."""
GIVEN_UP_S: Final = 60.0
WAITED_S: Final = 0.5
SWIPES_A_PERSON: Final = 300
ACTOR: Final = "cards-0"
Out = Annotated[Path, typer.Option(help="Directory of the JSON.")]
Row = tuple[str, str, str, bool]
"""Figure, its value, its gate, and whether the gate is met."""


class _Decks:
    """A host's service: a dense city and the decks of it."""

    METHODS = ("deck",)
    tenure = None
    epoch = 0

    def __init__(self, people: int, radius_km: int, seed: int) -> None:
        self._options = people, radius_km, seed

    async def start(self) -> None:
        people, radius_km, seed = self._options
        rng = np.random.default_rng(seed)
        rows = disc(people, radius_km, rng, datetime.now(UTC))
        self._cards = Cards(reciprocal())
        self._cards.load(rows)
        self._cards.settle()
        self._cards.use(history(rows, rng))
        self.epoch = 1

    async def close(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        return self._cards.describe()

    async def deck(self, queries: Sequence[DeckQuery]) -> list[Shortlist]:
        now = datetime.now(UTC)
        return [self._cards.shortlist(query, now) for query in queries]


def services(people: int, radius_km: int, seed: int, settings: Settings, name: str, spans: Spans | None) -> Mapping[str, Service]:
    return {"cards": _Decks(people, radius_km, seed)}


def shard(
    people: Annotated[int, typer.Option(help="People within the radius of a dense city.", min=100)] = 13_000,
    radius_km: Annotated[int, typer.Option(help="The viewers' radius.", min=1, max=500)] = 50,
    seen: Annotated[int, typer.Option(help="People each viewer has swiped.", min=0)] = 50_000,
    rounds: Annotated[int, typer.Option(help="Viewers.", min=10)] = 300,
    population: Annotated[int, typer.Option(help="People of the world whose memory is measured.", min=1_000)] = 1_000_000,
    swipes: Annotated[int, typer.Option(help="Swipes that are restored.", min=1_000)] = 10_000_000,
    through_ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Also decks through a Ray actor.")] = True,
    seed: Annotated[int, typer.Option(help="The same seed, the same people.")] = 1,
    out: Out = Path("bench-results"),
) -> None:
    """Decks of a dense city, memory a person, and restoring people and swipes from rows. Needs no running platform.

    Swipes and people are restored from rows as the loader hands them on; PostgreSQL's own share is not in the figure.
    Seconds and milliseconds are processor time of the one thread, but for those through Ray.
    """
    rows: list[Row] = []
    figures = measured(people, radius_km, seen, rounds, seed)
    for name in ("baseline", "reciprocal, history, prices"):
        p50, p99 = figures[name]["with seen"]
        rows.append((f"deck in shard, {name}: p50 / p99", f"{p50:.2f} / {p99:.2f} ms", f"≤ {P99_MS:g} ms", p99 <= P99_MS))
        share = figures[name]["seen share"]
        rows.append((f"share of {seen:,} seen, {name}", f"{share:.1%}", f"≤ {SEEN_SHARE:.0%}", share <= SEEN_SHARE))
    if through_ray:
        p50, p99 = _through_ray(people, radius_km, rounds, seed)
        figures["through ray"] = p50, p99
        rows.append(("deck through Ray, one at a time: p50 / p99", f"{p50:.1f} / {p99:.1f} ms", f"≤ {RAY_P99_MS:g} ms", p99 <= RAY_P99_MS))
    spent, size = _people(population, seed)
    figures |= {"population": population, "people restored s": round(spent, 2), "bytes a person": round(size, 1)}
    rows.append((f"bytes a person, {population:,} people", f"{size:.0f}", f"≤ {BYTES_A_PERSON}", size <= BYTES_A_PERSON))
    rows.append((f"{population:,} people restored from rows", f"{spent:.2f} s", "", True))
    spent, size = restored_swipes(swipes)
    figures |= {"swipes": swipes, "swipes restored s": round(spent, 2), "bytes a swipe": round(size, 1)}
    rows.append((f"{swipes:,} swipes restored from rows", f"{spent:.2f} s", f"≤ {RESTORE_S:g} s", spent <= RESTORE_S))
    rows.append(("bytes a swipe", f"{size:.1f}", "", True))
    _show("What a shard costs", rows)
    _keep(out, "shard", figures)


def _through_ray(people: int, radius_km: int, rounds: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    asked = viewers(disc(people, radius_km, rng, datetime.now(UTC)), rounds, radius_km, rng)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        build: Build = partial(services, people, radius_km, seed)
        handle: Any = remote_host().options(num_cpus=0).remote(ACTOR, build)
        while not ray.get(handle.ping.remote())["ready"]:
            time.sleep(0.1)
        settings = load_settings("test").model_copy(update={"plan": Plan(card_actors=1)})

        async def ask() -> list[float]:
            client = CardsClient(ActorPool(settings, resolve=lambda name: RemoteActor(handle)))
            waits = []
            for query in [*asked[:20], *asked]:
                began = time.perf_counter()
                await client.deck(query)
                waits.append(1_000 * (time.perf_counter() - began))
            return waits[20:]

        p50, p99 = np.percentile(asyncio.run(ask()), (50, 99))
    finally:
        ray.shutdown()
    return round(float(p50), 2), round(float(p99), 2)


def _people(count: int, seed: int) -> tuple[float, float]:
    """(processor seconds from rows to answers, bytes a person) of a whole world."""
    rng = np.random.default_rng(seed)
    latitudes, longitudes, _ = world(count, rng)
    rows = rows_at(latitudes, longitudes, rng, datetime.now(UTC))
    cards = Cards(Baseline())
    began = time.thread_time()
    cards.load(rows)
    cards.settle()
    return time.thread_time() - began, cards.nbytes / count


def restored_swipes(count: int) -> tuple[float, float]:
    """(processor seconds from the loader's bytes to memory, bytes a swipe); 300 swipes a person, a part repeated to fill the count."""
    rng = np.random.default_rng(1)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    packed = []
    for _ in range(1_000):
        rows = np.zeros(SWIPES_A_PERSON, OWN_RECORD)
        rows["high"], rows["low"] = rng.integers(0, 1 << 63, (2, SWIPES_A_PERSON))
        rows["fact"] = (1 << 42) + (rng.integers(0, 1 << 28, SWIPES_A_PERSON) << 2) + rng.integers(1, 4, SWIPES_A_PERSON)
        rows["at_us"] = 8 * 10**14
        packed.append(rows.tobytes())
    restored = []
    quieten_collector()  # as the shard's process has it
    began = time.thread_time()
    for number in range(count // SWIPES_A_PERSON):
        person = Person()
        person.load(person_rows(UUID(int=number), packed[number % len(packed)], b"", b"", (), today))
        restored.append(person)
    spent = time.thread_time() - began
    return spent, sum(person.fact_bytes() for person in restored) / sum(person.facts() for person in restored)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request for cards: monotonic seconds; ``wrong``: neither the people of before nor 503."""

    started: float
    ended: float
    status: int
    wrong: bool


def restart(
    data_dir: Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Data directory of the platform.")] = Path(".sugar"),
    times: Annotated[int, typer.Option(help="Kills of each kind of actor.", min=1)] = 3,
    out: Out = Path("bench-results"),
) -> None:
    """kill -9 of card and swipe actors of the running platform: seconds until cards are answered again, and answered right.

    Asks for decks every 0.1 s, whether those before were answered or not; meanwhile only 200 with the same people as before, or 503, counts as right.
    """
    settings = running_settings(data_dir)
    with connect(settings, "bench") as conn:
        found = conn.execute(
            "SELECT id::text FROM users WHERE cell IS NOT NULL AND role IS NOT NULL ORDER BY id LIMIT 500"
        ).fetchall()
    callers = requests.callers(settings, [row[0] for row in found])
    rows: list[Row] = []
    figures: dict[str, Any] = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}/api/v1", timeout=30.0) as client:
        viewer = next((caller for caller in callers if _shown(client, caller, 0)[1]), None)
        if viewer is None:
            raise ConfigurationError("nobody has cards here: run `sugar seed --users 2000` first", people=len(callers))
        for kind in ("cards", "swipes"):
            taken = [_killed(client, data_dir, kind, viewer, number) for number in range(times)]
            worst = max(seconds for seconds, _ in taken)
            wrong = sum(wrong for _, wrong in taken)
            figures[kind] = {"seconds": [round(seconds, 2) for seconds, _ in taken], "wrong": wrong}
            rows.append((f"kill -9 {kind}: longest until answered", f"{worst:.2f} s", f"≤ {BACK_S:g} s", worst <= BACK_S))
            rows.append((f"kill -9 {kind}: answers neither right nor 503", str(wrong), "0", wrong == 0))
    _show("How soon a shard is back", rows)
    _keep(out, "restart", figures)


def _shown(client: httpx.Client, caller: requests.Caller, number: int) -> tuple[int, frozenset[str]]:
    """(status, people) of a deck that no earlier request has made: each number has its own filters."""
    age_max = 99 - number % 7
    answer = client.get(f"/matching/cards?limit=50&ageMax={age_max}", headers={"Authorization": f"Bearer {caller.token}"})
    found = answer.json().get("cards", []) if answer.status_code == 200 else []
    return answer.status_code, frozenset(card["userId"] for card in found if card["age"] <= 92)


def _killed(client: httpx.Client, data_dir: Path, kind: str, viewer: requests.Caller, number: int) -> tuple[float, int]:
    """(seconds until answered, answers that were neither the people of before nor 503).

    A request starts every ``ASK_EVERY_S`` without waiting for those before, which a platform holds for seconds before it
    refuses: the first answer 200 of those that started after the last that was refused ends the measurement.
    """
    report = read_report(data_dir)
    pids = [actor.pid for actor in report.actors if actor.name == f"{kind}-0"] if report else []
    if not pids:
        raise ConfigurationError("the platform is not well: no such actor", actor=f"{kind}-0")
    before = _shown(client, viewer, number)[1]
    asked: list[_Asked] = []

    def ask() -> _Asked:
        started = time.monotonic()
        status, people = _shown(client, viewer, number)
        return _Asked(started, time.monotonic(), status, status not in (200, 503) or (status == 200 and people != before))

    with ThreadPoolExecutor(ASKING) as pool:
        os.kill(pids[0], signal.SIGKILL)
        began = time.monotonic()
        waiting: list[Future[_Asked]] = []
        while time.monotonic() - began < GIVEN_UP_S:
            if len(waiting) < ASKING:
                waiting.append(pool.submit(ask))
            time.sleep(ASK_EVERY_S)
            asked += [future.result() for future in waiting if future.done()]
            waiting = [future for future in waiting if not future.done()]
            if time.monotonic() - began > SETTLED_S and _back(asked) is not None:
                break
        asked += [future.result() for future in waiting]
    back = _back(asked)
    _until_other(data_dir, kind, pids[0])
    return (GIVEN_UP_S if back is None else max(0.0, back - began)), sum(one.wrong for one in asked)


def _back(asked: Sequence[_Asked]) -> float | None:
    """When the shard was back: the first answer to a request that started after the last refused one, and not before the
    first answer to a request that had to wait; None: not yet."""
    refused = max((one.started for one in asked if one.status != 200), default=-1.0)
    answered = [one.ended for one in asked if one.status == 200 and one.started > refused]
    waited = [one.ended for one in asked if one.status == 200 and one.ended - one.started > WAITED_S]
    return max(min(answered), min(waited, default=0.0)) if answered else None


def _until_other(data_dir: Path, kind: str, pid: int) -> None:
    """Waits until the report names the actor's new process."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        report = read_report(data_dir)
        if report and any(actor.name == f"{kind}-0" and actor.ready and actor.pid not in (0, pid) for actor in report.actors):
            return
        time.sleep(0.2)


def _show(title: str, rows: Sequence[Row]) -> None:
    table = Table("figure", title=title)
    table.add_column("measured", justify="right")
    table.add_column("gate", justify="right")
    for name, value, gate, met in rows:
        table.add_row(name, value, gate if met else f"[red]{gate} missed[/red]")
    console.print(table)


def _keep(out: Path, name: str, figures: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1))
