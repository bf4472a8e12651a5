"""`sugar bench soak`: the design's mix of requests, an hour to fill and an hour judged, and whether memory or lag grow with time.

Memory is what belongs to a process alone and to no file (its part of the unique set size that is not the same on disk):
PostgreSQL's shared buffers fill once and are no leak, whoever touched them last, and pages of mapped files (programs, the indexes
of Kafka's log, which grow with it) are the system's cache. What was stored because somebody asked for it is subtracted where it is
counted: swipes in their shards, keys in Valkey. The embedded broker keeps its log in memory by design and is not judged; Kafka
keeps it on disk.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cluster.connections.postgres import connect
from cluster.connections.redis import sync_client
from cluster.connections.redis_cluster import ClusterRedis
from cluster.launch.bench import measure
from cluster.launch.bench.accounting import processes
from cluster.launch.bench.soak_load import COUPLES, MIX, Load
from cluster.launch.report import Report, read_report
from cluster.launch.state import running_settings
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings

console = Console(highlight=False)
RESULTS: Final = Path("bench-results")
PEOPLE: Final = 4_000
PROBE_S: Final = 8.0
PROBES: Final = 3
"""The last one counts: a platform that has just begun answers half as many."""
CHUNK_S: Final = 15.0
"""Requests are made anew so often: tokens live for minutes. Memory is looked at when one begins."""
LEAD_S: Final = 4.0
"""So long before a chunk is due its requests are made and its generator starts, so that there is no pause between two."""
LAG_EVERY_S: Final = 1.0
"""Between two looks at the lag, of which the platform tells a new figure every 3 s or so: its readers rest for seconds, so one in 15 s is
little to go by."""
PREPARED: Final = int(4_000 * PROBE_S)
"""Requests that are made for that long of asking as fast as they are answered: more than any machine of this size takes."""
FAST_S: Final = 120.0
FAST: Final = 1.8
"""So many times the rate, at most a tenth of the run's length, comes before it: batches and buffers grow to what a crowded
moment makes them, which at half the peak comes once in an hour and looks like a leak."""
DRAINED_S: Final = 60.0
WARM: Final = 0.5
"""Share of the run in which pools, caches and arenas fill; not judged. Each token that was checked is remembered, and they fill a
replica's memory of them for 24 minutes; pools of Python and of libraries keep what the largest batch so far took, and in the first hour
there are larger ones now and then."""
MOST_PERCENT_AN_HOUR: Final = 1.0
JUDGED_MINUTES: Final = 30.0
"""A shorter run says little of an hour: a page of the allocator is a percent then."""
SHOWN: Final = 25
PARTS: Final = 4
"""Of a run, in which the cost of each component is told: what costs more each time will not hold for long."""
LAG_NOISE: Final = 200.0
"""Records that may wait at any moment: a batch of each partition."""
MOST_ERRORS: Final = 0.001
"""Share of the requests that may be without a good answer."""
COME_AND_GO: Final = ("postgres", "ray system")
"""Components that start and end processes as they like: connections and vacuuming, workers. The server or node itself takes others
with it."""
COUNTED_BARE: Final = ("valkey",)
"""Components that count what they store without the headers and gaps of their allocator."""
LIKES_A_DAY: Final = 100_000
MESSAGES_A_MINUTE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment, by component/pid. ``memory``: bytes ``of_its_own``; ``resident``: shared ones too; ``stored``: of what may grow;
    ``lag``: records that waited, on average since the moment before; ``cpu``: seconds so far."""

    at_s: float
    memory: Mapping[str, int]
    resident: Mapping[str, int]
    stored: Mapping[str, int]
    entries: Mapping[str, int]
    lag: int
    cpu: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slope:
    """How one process grew after the warm-up."""

    process: str
    mib: float
    mib_an_hour: float
    """After subtracting what was stored."""
    percent_an_hour: float
    """Of its resident memory."""
    stored_mib: float
    new_entries: int
    step_mib: float = 0.0
    """The most that was taken between two moments."""
    judged: bool = True


@dataclass(slots=True)
class Soak:
    """A run's figures."""

    rate: float
    minutes: float
    offered: int = 0
    errors: int = 0
    max_ms: float = 0.0
    p99_ms: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    exempt: tuple[str, ...] = ()
    """Components that are not judged."""


def exempt(settings: Settings) -> tuple[str, ...]:
    """The embedded broker, whose log is in memory and grows by design."""
    return ("broker",) if settings.broker == "memory" else ()


def soak(
    data_dir: Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Data directory of the platform.")] = Path(".sugar"),
    minutes: Annotated[float, typer.Option(help="How long; what grows is judged by the second half.", min=0.5, max=1_440)] = 120,
    rate: Annotated[float, typer.Option(help="Requests a second; 0: half of what a closed loop gets in some seconds.", min=0)] = 0,
    connections: Annotated[int, typer.Option(help="Connections of the generator.", min=1, max=2_000)] = 128,
) -> None:
    """Requests of the design's mix at half the peak; slopes of every process's memory and of the lag.

    Exit code 1: something grows, a process was replaced in the judged half, or requests were without a good answer.
    """
    settings = running_settings(data_dir)
    _check(settings)
    load = Load(settings, _people(settings))
    if not rate:
        for _ in range(PROBES):
            rate = measure.generate(settings.port, load.take(PREPARED), rate=0, seconds=PROBE_S, connections=connections).rate / 2
    _lasts(len(load.ids), rate, minutes)
    console.print(f"{rate:.0f} requests a second for {minutes:g} minutes")
    for _ in range(int(min(FAST_S, minutes * 60 / 10) / CHUNK_S)):
        measure.generate(
            settings.port, load.take(int(FAST * rate * CHUNK_S)), rate=FAST * rate, seconds=CHUNK_S, connections=connections
        )
    _drained(data_dir)
    run = Soak(rate, minutes, exempt=exempt(settings))
    chunks = max(1, round(minutes * 60 / CHUNK_S))
    began = time.monotonic() + LEAD_S

    def start(number: int) -> measure.Generating:
        return measure.Generating(
            settings.port, load.take(int(rate * CHUNK_S)), rate=rate, seconds=CHUNK_S, connections=connections, at=began + number * CHUNK_S
        )

    waiting: list[int] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    running = [start(0)]
    try:
        with Progress(*columns, console=console, refresh_per_second=1) as progress:
            bar = progress.add_task("soak", total=chunks)
            for number in range(chunks):
                _wait_until(began + number * CHUNK_S)
                run.samples.append(_sample(settings, data_dir, time.monotonic() - began, waiting))
                with _lags(data_dir) as waiting:
                    _wait_until(began + (number + 1) * CHUNK_S - LEAD_S)
                    if number + 1 < chunks:
                        running.append(start(number + 1))
                    out = running.pop(0).outcome()
                run.offered += out.offered
                run.errors += round(out.errors * out.offered)
                run.max_ms = max(run.max_ms, out.max_ms)
                run.p99_ms.append(out.p99_ms)
                progress.update(
                    bar, completed=number + 1,
                    description=f"{run.offered} requests, {run.errors} without a good answer, p99 {out.p99_ms:.0f} ms",
                )
    finally:
        for left in running:
            left.stop()
    run.samples.append(_sample(settings, data_dir, time.monotonic() - began, waiting))
    if not _tell(run):
        raise typer.Exit(1)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _lasts(people: int, rate: float, minutes: float) -> None:
    """Raises ConfigurationError: half way through people would like those who have liked them, and matches begin."""
    pairs = (people - 2 * COUPLES) * (people - 2 * COUPLES - 1) // 2
    swipes = MIX.count("swipe") / len(MIX) * (rate * (minutes * 60 + FAST * FAST_S) + PROBES * PREPARED)
    if swipes > pairs:
        raise ConfigurationError(
            "there are too few people for a load that stays the same; start with more, `--demo-users 4000`, or run for less",
            people=people, minutes=f"{minutes * pairs / swipes:.0f} at most",
        )


def _drained(data_dir: Path) -> None:
    """Waits until the writers have taken in what came before the run, or for ``DRAINED_S``."""
    until = time.monotonic() + DRAINED_S
    while time.monotonic() < until and (read_report(data_dir) or Report()).behind > LAG_NOISE:
        time.sleep(1)


@contextmanager
def _lags(data_dir: Path) -> Iterator[list[int]]:
    """The lag at every look in the meantime."""
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LAG_EVERY_S):
            if (report := read_report(data_dir)) is not None:
                seen.append(report.behind)

    looking = threading.Thread(target=look, name="lags", daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def judged(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the warm-up."""
    return [sample for sample in samples if sample.at_s >= WARM * samples[-1].at_s]


def slopes(samples: Sequence[Sample], exempt: Sequence[str] = ()) -> list[Slope]:
    """Of every process that lived through all of it, the steepest first; least squares over the samples after the warm-up.

    ``exempt``: components that are not judged.
    """
    late = judged(samples)
    found = []
    for process in set(late[0].memory).intersection(*(sample.memory for sample in late)):
        # The allocator's share is taken to be what it was after the warm-up.
        bare = process.split("/")[0] in COUNTED_BARE and late[0].stored.get(process, 0)
        share = max(1.0, late[0].memory[process] / late[0].stored[process]) if bare else 1.0
        times, grown = [sample.at_s for sample in late], [sample.memory[process] - share * sample.stored.get(process, 0) for sample in late]
        first, last = late[0], late[-1]
        an_hour = _slope(times, grown) * 3_600
        found.append(Slope(
            process, last.memory[process] / 2**20, an_hour / 2**20, 100 * an_hour / max(first.resident[process], 1),
            (last.stored.get(process, 0) - first.stored.get(process, 0)) / 2**20,
            last.entries.get(process, 0) - first.entries.get(process, 0),
            max((after - before for before, after in itertools.pairwise(grown)), default=0.0) / 2**20,
            process.split("/")[0] not in exempt,
        ))
    return sorted(found, key=lambda slope: -slope.percent_an_hour)


def restarted(samples: Sequence[Sample]) -> list[str]:
    """Processes that were not there all the time: one that is replaced has no slope, and hides one."""
    everywhere = set(samples[0].memory).intersection(*(sample.memory for sample in samples))
    return sorted({process for sample in samples for process in sample.memory} - everywhere)


def failures(run: Soak) -> list[str]:
    """Why the run did not end well. Growth is judged of runs of ``JUDGED_MINUTES`` and more."""
    found = []
    if run.errors > MOST_ERRORS * run.offered or not run.offered:
        found.append(f"{run.errors} of {run.offered} requests without a good answer, more than {MOST_ERRORS:.1%}")
    replaced = [process for process in restarted(judged(run.samples)) if process.split("/")[0] not in COME_AND_GO]
    if replaced:
        found.append(f"replaced after the warm-up, and a leak would have gone with it: {', '.join(replaced)}")
    if run.minutes >= JUDGED_MINUTES:
        growing = [slope.process for slope in slopes(run.samples, run.exempt) if slope.judged and slope.percent_an_hour > MOST_PERCENT_AN_HOUR]
        if lag_growth(run.samples) > LAG_NOISE:
            growing.append("lag")
        if growing:
            found.append(f"grows: {', '.join(growing)}")
    return found


def lag_growth(samples: Sequence[Sample]) -> float:
    """Records by which the lag of the last third exceeds that of the first, on average."""
    third = max(1, len(samples) // 3)
    return sum(sample.lag for sample in samples[-third:]) / third - sum(sample.lag for sample in samples[:third]) / third


def cores(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """Cores taken by each component in each of PARTS of the run, the dearest first; whoever ended or began in a part is not in it."""
    bounds = [round(part * (len(samples) - 1) / PARTS) for part in range(PARTS + 1)]
    found: dict[str, list[float]] = {}
    for part, (start, end) in enumerate(itertools.pairwise(bounds)):
        first, last = samples[start], samples[end]
        for process in first.cpu.keys() & last.cpu.keys():
            spent = (last.cpu[process] - first.cpu[process]) / max(last.at_s - first.at_s, 1e-9)
            found.setdefault(process.split("/")[0], [0.0] * PARTS)[part] += spent
    return dict(sorted(found.items(), key=lambda item: -sum(item[1])))


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the line of least squares, a second; 0 for fewer than two moments."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    return sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True)) / spread if spread else 0.0


def _check(settings: Settings) -> None:
    limits = settings.limits
    if limits.likes_a_day < LIKES_A_DAY or min(
        limits.messages_per_conversation_a_minute, limits.messages_per_user_a_minute, limits.requests_per_user_a_second
    ) < MESSAGES_A_MINUTE / 60:
        raise ConfigurationError(
            "this platform would refuse most of the soak's requests; start it with "
            f"SUGAR_LIMITS__LIKES_A_DAY={LIKES_A_DAY} SUGAR_LIMITS__REQUESTS_PER_USER_A_SECOND={MESSAGES_A_MINUTE} "
            f"SUGAR_LIMITS__MESSAGES_PER_CONVERSATION_A_MINUTE={MESSAGES_A_MINUTE} "
            f"SUGAR_LIMITS__MESSAGES_PER_USER_A_MINUTE={MESSAGES_A_MINUTE}"
        )


def _people(settings: Settings) -> list[str]:
    with connect(settings, "bench") as conn:
        ids = [row[0] for row in conn.execute(
            "SELECT id::text FROM users WHERE cell IS NOT NULL AND role IS NOT NULL ORDER BY id LIMIT %s", (PEOPLE,)
        ).fetchall()]
    if len(ids) < 3 * COUPLES:
        raise ConfigurationError("a soak needs people: run `sugar seed --users 4000` first", people=len(ids))
    return ids


def _sample(settings: Settings, data_dir: Path, at_s: float, waiting: Sequence[int] = ()) -> Sample:
    """``waiting``: what the lag was since the moment before."""
    report = read_report(data_dir) or Report()
    memory: dict[str, int] = {}
    resident: dict[str, int] = {}
    cpu: dict[str, float] = {}
    names: dict[int, str] = {actor.pid: actor.name for actor in report.actors}
    for component, process in processes(data_dir):
        try:
            own, rss, times = of_its_own(process), process.memory_info().rss, process.cpu_times()
        except psutil.Error:
            continue
        name = f"{names.get(process.pid, component)}/{process.pid}"
        memory[name], resident[name], cpu[name] = own, rss, times.user + times.system
    lag = round(sum(waiting) / len(waiting)) if waiting else report.behind
    return Sample(at_s, memory, resident, _stored(settings, report, memory), _entries(report), lag, cpu)


def of_its_own(process: psutil.Process) -> int:
    """Bytes of a process that no other one shares or could share, and that no file holds. Raises psutil.Error: it has ended, or is
    somebody else's.

    A page of shared memory that only one process has touched lately counts as its private one in the kernel's figures.
    """
    return sum(part.private_dirty + part.swap for part in process.memory_maps(grouped=False) if not part.perms.endswith("s"))


def _stored(settings: Settings, report: Report, memory: Mapping[str, int]) -> dict[str, int]:
    """Bytes by process of what people stored, as shards and Valkey count it."""
    found = {
        f"{actor.name}/{actor.pid}": sum(
            service.get("stored_bytes", 0) for service in actor.figures.get("services", {}).values() if isinstance(service, dict)
        ) for actor in report.actors
    }
    servers = _held(settings)
    return found | {f"valkey/{pid}": held for pid, held in servers.items() if f"valkey/{pid}" in memory}


def _held(settings: Settings) -> dict[int, int]:
    """Bytes that each server of Redis holds, by its pid."""
    found: dict[int, int] = {}
    with sync_client(settings) as client:
        for server in client.servers() if isinstance(client, ClusterRedis) else [client]:
            told = server.info()
            found[int(told["process_id"])] = int(told["used_memory"])
    return found


def _entries(report: Report) -> dict[str, int]:
    return {
        f"{actor.name}/{actor.pid}": sum(
            service.get("entries", 0) for service in actor.figures.get("services", {}).values() if isinstance(service, dict)
        ) for actor in report.actors
    }


def _tell(run: Soak) -> bool:
    """Prints and writes the report; whether the run ended well, as far as so short a one can tell."""
    table = Table("process", "MiB", "stored MiB", "new entries", "MiB an hour", "% an hour", "largest step, MiB", title="Memory of their own after the warm-up, what was stored subtracted; the steepest")
    found, growth, replaced = slopes(run.samples, run.exempt), lag_growth(run.samples), restarted(run.samples)
    failed = failures(run)
    for slope in found[:SHOWN]:
        table.add_row(
            slope.process, f"{slope.mib:.1f}", f"{slope.stored_mib:.1f}", str(slope.new_entries), f"{slope.mib_an_hour:+.2f}",
            f"{slope.percent_an_hour:+.2f}" if slope.judged else "not judged", f"{slope.step_mib:.1f}",
        )
    console.print(table)
    spent = Table("component", *(f"{part + 1} of {PARTS}" for part in range(PARTS)), title="Cores taken over the run")
    for component, taken in cores(run.samples).items():
        spent.add_row(component, *(f"{share:.3f}" for share in taken))
    console.print(spent)
    console.print(
        f"{run.offered} requests, {run.offered / run.samples[-1].at_s:.0f} a second, {run.errors} without a good answer, p99 {max(run.p99_ms):.0f} ms at worst, longest {run.max_ms:.0f} ms; "
        f"lag {run.samples[0].lag} at first, {run.samples[-1].lag} at last, {growth:+.0f} on average; replaced: {', '.join(replaced) or 'none'}"
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "soak.json"
    told: dict[str, Any] = asdict(run) | {"slopes": [asdict(slope) for slope in found], "cores": cores(run.samples), "lag_growth": growth, "replaced": replaced, "failures": failed}
    path.write_text(json.dumps(told, indent=1))
    console.print(f"written to {path}")
    if run.minutes < JUDGED_MINUTES:
        console.print(f"growth is not judged: a run of less than {JUDGED_MINUTES:g} minutes says little of an hour")
    for failure in failed:
        console.print(f"[red]failed[/red]: {failure}")
    return not failed
