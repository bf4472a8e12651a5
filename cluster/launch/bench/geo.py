"""`sugar bench geo`: the 200 nearest people, asked of the card shard's index, of Redis and of PostGIS in turns."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Final

import ray
import typer
from rich.console import Console
from rich.table import Table

from cluster.launch.bench.geo_ray import RaySide, redis_rate
from cluster.launch.bench.geo_sides import (
    COUNT,
    INSTALL_POSTGIS,
    Index,
    Place,
    PostGIS,
    Redis,
    Side,
    temporary,
)
from cluster.launch.bench.geo_world import GeoWorld, same_answer
from configs.contracts.errors import PlatformError

console = Console(highlight=False)
QUERIES_A_TURN: Final = 16
VIEWERS: Final = 2_000
CHECKED: Final = 40
GATES: Final = {10: 3.0}
"""Least ratio to Redis in process by radius; elsewhere 5, through Ray 2."""


@dataclass(slots=True)
class Timed:
    """One engine's answers: seconds asking, seconds moving people, questions and moves in them."""

    questions: int = 0
    asking_s: float = 0.0
    moves: int = 0
    moving_s: float = 0.0

    @property
    def answers_a_second(self) -> float:
        return self.questions / (self.asking_s + self.moving_s)

    @property
    def moves_a_second(self) -> float:
        return self.moves / (self.asking_s + self.moving_s)

    @property
    def query_us(self) -> float:
        return 1e6 * self.asking_s / self.questions


@dataclass(slots=True)
class Line:
    """One row of the table: a radius, asked from everywhere or from the metropolis."""

    viewers: str
    radius_km: float
    in_process: dict[str, Timed] = field(default_factory=dict)
    ray: dict[str, float] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        return self.in_process[Index.name].answers_a_second / self.in_process[name].answers_a_second

    @property
    def ray_ratio(self) -> float:
        return self.ray["card shard"] / self.ray["Redis"] if self.ray else 0.0


def geo(
    people: Annotated[int, typer.Option(help="People; a tenth of them in one metropolis.", min=1_000)] = 1_000_000,
    radii: Annotated[str, typer.Option(help="Radii in km.")] = "10,50,160",
    seconds: Annotated[float, typer.Option(help="Seconds for each engine, radius and kind of viewer.", min=0.1)] = 2.0,
    moves: Annotated[float, typer.Option(help="Location changes a second that each engine takes in meanwhile.", min=0)] = 20_000,
    in_flight: Annotated[int, typer.Option(help="Requests in flight through Ray and to Redis.", min=1)] = 64,
    through_ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Also through a Ray actor.")] = True,
    postgis: Annotated[bool, typer.Option("--postgis/--no-postgis", help=f"Also PostGIS ({INSTALL_POSTGIS}).")] = True,
    seed: Annotated[int, typer.Option(help="The same seed, the same people, moves and viewers.")] = 1,
    out: Annotated[Path, typer.Option(help="Directory of the JSON.")] = Path("bench-results"),
) -> None:
    """The 200 nearest people (exact, nearest first): card shard against Redis GEOSEARCH and PostGIS, people moving meanwhile.

    Needs no running platform: it starts a Valkey, a PostgreSQL with PostGIS when that is installed, and a Ray of its own.
    The engines take turns within one run; a turn's time holds the moves that fell due in it. Redis is asked 16 queries
    in a round trip, over a bare socket. PostGIS also leaves out 300 people who were swiped, and takes in as many moves
    as it can in its turns, not more.
    """
    began = time.monotonic()
    radius_list = [float(radius) for radius in radii.split(",")]
    world = GeoWorld.make(people, seed)
    console.print(f"{people} people, {int(world.metropolis.sum())} in the metropolis; made in {time.monotonic() - began:.1f} s")
    directory = temporary()
    sides: list[Side] = []
    lines = [Line(viewers, radius) for viewers in ("everywhere", "metropolis") for radius in radius_list]
    try:
        began = time.monotonic()
        redis = Redis(world, directory / "valkey")
        sides = [Index(world), redis]
        if postgis and PostGIS.installed():
            sides.append(PostGIS(world, directory))
        elif postgis:
            console.print(f"PostGIS is left out: it is not installed ({INSTALL_POSTGIS})")
        console.print(f"filled {', '.join(side.name for side in sides)} in {time.monotonic() - began:.1f} s")
        for line in lines:
            places = world.viewers(VIEWERS, metropolis=line.viewers == "metropolis", seed=seed + 1)
            _check(world, sides, places, line.radius_km)
            line.in_process = {side.name: Timed() for side in sides}
            _in_turns(sides, line, places, seconds, moves)
            _level(sides)
            _check(world, sides, places, line.radius_km)
        if through_ray:
            _through_ray(redis, world, lines, people, seed, seconds, moves, in_flight)
    finally:
        for side in sides:
            side.close()
        shutil.rmtree(directory, ignore_errors=True)
    _show(lines, sides)
    out.mkdir(parents=True, exist_ok=True)
    (out / "geo.json").write_text(json.dumps({
        "people": people, "moves_a_second": moves, "in_flight": in_flight, "seed": seed,
        "lines": [
            asdict(line) | {"ratio_redis": line.ratio("Redis"), "ratio_redis_through_ray": line.ray_ratio} for line in lines
        ],
    }, indent=1))


def _in_turns(sides: Sequence[Side], line: Line, places: Sequence[Place], seconds: float, moves: float) -> None:
    """Each engine asks the same questions in the same order until each has used its time, in turns of a few."""
    start = 0
    for side in sides:  # what an engine remembers of a viewer's place it remembers before and after
        side.ask(places[:QUERIES_A_TURN], line.radius_km)
    while any(timed.asking_s + timed.moving_s < seconds for timed in line.in_process.values()):
        turn = [places[number % len(places)] for number in range(start, start + QUERIES_A_TURN)]
        start += QUERIES_A_TURN
        for side in sides:
            timed = line.in_process[side.name]
            if timed.asking_s + timed.moving_s >= seconds:
                continue
            began = time.perf_counter()
            side.ask(turn, line.radius_km)
            timed.asking_s += time.perf_counter() - began
            timed.questions += len(turn)
            due = int((timed.asking_s + timed.moving_s) * moves) - timed.moves
            if isinstance(side, PostGIS):
                due = min(due, QUERIES_A_TURN)
            began = time.perf_counter()
            side.move(due)
            timed.moving_s += time.perf_counter() - began
            timed.moves += due


def _level(sides: Sequence[Side]) -> None:
    """Lets every engine take in as many moves as the one furthest ahead; of the cycle of moves what changes anything."""
    ahead = max(side.moves for side in sides)
    for side in sides:
        while side.moves < ahead:
            side.move(min(ahead - side.moves, 5_000))


def _check(world: GeoWorld, sides: Sequence[Side], places: Sequence[Place], radius_km: float) -> None:
    """Raises PlatformError: the engines do not answer the same people (PostGIS leaves out the swiped ones)."""
    now = world.places_after(sides[0].moves)
    ours, redis = sides[0], sides[1]
    asked = places[:: max(1, len(places) // CHECKED)][:CHECKED]
    for place, one, other in zip(asked, ours.ask(asked, radius_km), redis.ask(asked, radius_km), strict=True):
        if not same_answer(place, now, ours.people(one), redis.people(other), radius_km):
            raise PlatformError("the engines do not agree", place=place, radius_km=radius_km)


def _through_ray(
    redis: Redis, world: GeoWorld, lines: Sequence[Line], people: int, seed: int, seconds: float, moves: float, in_flight: int
) -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        side = RaySide(people, seed, moves)
        for line in lines:
            places = world.viewers(VIEWERS, metropolis=line.viewers == "metropolis", seed=seed + 1)
            side.rate(places, line.radius_km, seconds / 2, in_flight)  # viewers' places are remembered, as Redis's pages are
            ours = side.rate(places, line.radius_km, seconds, in_flight)
            theirs = redis_rate(redis, places, line.radius_km, seconds, in_flight, moves)
            line.ray = {
                "card shard": ours.answers, "card shard moves": ours.moves, "card shard p99 ms": ours.p99_ms,
                "Redis": theirs.answers, "Redis moves": theirs.moves, "Redis p99 ms": theirs.p99_ms,
            }
        side.close()
    finally:
        ray.shutdown()


def _show(lines: Sequence[Line], sides: Sequence[Side]) -> None:
    """Ratios are of answers a second, the time of the moves included, in which each engine is while it does not answer."""
    for name in (side.name for side in sides[1:]):
        table = Table("viewers", title=f"{COUNT} nearest people in process: card shard and {name}")
        for column in ("km", "card shard µs", "moves/s", f"{name} µs", "moves/s", f"× {name}", "gate"):
            table.add_column(column, justify="right")
        for line in lines:
            ours, theirs = line.in_process[Index.name], line.in_process[name]
            gate = GATES.get(int(line.radius_km), 5.0) if name == "Redis" else 0.0
            table.add_row(
                line.viewers, f"{line.radius_km:g}", f"{ours.query_us:,.0f}", f"{ours.moves_a_second:,.0f}",
                f"{theirs.query_us:,.0f}", f"{theirs.moves_a_second:,.0f}", *_judged(line.ratio(name), gate),
            )
        console.print(table)
    if not all(line.ray for line in lines):
        return
    table = Table("viewers", title="The same through Ray and through Redis's socket, requests in flight on both")
    for column in ("km", "Ray answers/s", "p99 ms", "moves/s", "Redis answers/s", "p99 ms", "moves/s", "× Redis", "gate"):
        table.add_column(column, justify="right")
    for line in lines:
        through = line.ray
        table.add_row(
            line.viewers, f"{line.radius_km:g}",
            *(f"{through[name]:,.0f}" for engine in ("card shard", "Redis") for name in (engine, f"{engine} p99 ms", f"{engine} moves")),
            *_judged(line.ray_ratio, 2.0),
        )
    console.print(table)


def _judged(ratio: float, gate: float) -> tuple[str, str]:
    if not gate:
        return f"{ratio:,.0f}", ""
    return f"{ratio:,.1f}", f"≥ {gate:g}" if ratio >= gate else f"[red]≥ {gate:g} missed[/red]"
