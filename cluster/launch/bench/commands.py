"""`sugar bench`: load on the running platform, answers, latency and CPU by component, as a table and as JSON."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.connections.postgres import connect
from cluster.launch.bench import feeds, measure, publishing, requests
from cluster.launch.bench.accounting import APART, SERVING, usage
from cluster.launch.bench.everything import everything
from cluster.launch.bench.geo import geo
from cluster.launch.bench.shard import restart, shard
from cluster.launch.bench.soak import soak
from cluster.launch.bench.sockets import delivery, sockets
from cluster.launch.report import read_report
from cluster.launch.state import running_settings
from configs.contracts.errors import ConfigurationError
from configs.settings import Settings
from writers.catching_up import catch_up

app = typer.Typer(
    no_args_is_help=True,
    help="Measure the running platform with an open-loop generator in a process of its own (see generator.py).",
)
app.command()(geo)
app.command()(shard)
app.command()(restart)
app.command()(sockets)
app.command()(delivery)
app.command()(soak)
app.command("all")(everything)
console = Console(highlight=False)
RESULTS = Path("bench-results")
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Data directory of the platform.")]
Seconds = Annotated[float, typer.Option(help="Length of the run at the peak; half of it at half the peak.", min=2, max=600)]
Connections = Annotated[int, typer.Option(help="Connections of the generator.", min=1, max=2_000)]
DEFAULT_DATA_DIR = Path(".sugar")
PROBE_SECONDS = 8.0
HALF_SECONDS = 5.0
SUSTAINED_ERRORS = 0.001
STEPS = (0.95, 0.85, 0.7, 0.5)
"""Shares of the closed loop's rate that are tried, highest first, until one is sustained."""
LAG_LIMIT_S = 120.0

ROUNDS_A_RUN = 77
"""Times that each cold viewer asks in a run at most, so that none asks twice with the same filters while a deck is cached."""
LOGINS_A_MINUTE = 100_000
"""All of them come from one address."""

MESSAGES_A_MINUTE = 100_000
"""Of one person: a bench has fewer of them than messages."""


@dataclass(slots=True)
class Setting:
    """What a scenario runs against."""

    settings: Settings
    data_dir: Path
    people: list[requests.Caller]
    noops: list[float]
    """What the bare no-op took, before everything and after each closed loop: other tenants of a machine come and go."""

    @property
    def noop(self) -> float:
        return sum(self.noops) / len(self.noops)


def _prepare(data_dir: Path, near: str | None = None) -> Setting:
    settings = running_settings(data_dir)
    with connect(settings, "bench") as conn:
        ids = [
            row[0] for row in conn.execute(
                "SELECT id::text FROM users WHERE cell IS NOT NULL AND role IS NOT NULL ORDER BY id LIMIT 50000"
            ).fetchall()
        ]
    if len(ids) < 100:
        raise ConfigurationError("bench needs people: run `sugar seed --users 2000` first", people=len(ids))
    console.print(f"{len(ids)} people; measuring the bare no-op of this machine")
    noop = measure.bare_noop()
    console.print(f"bare uvicorn + FastAPI + pydantic POST: {noop:.3f} CPU-s per 1,000")
    return Setting(settings, data_dir, requests.callers(settings, ids), [noop])


def _scenario(
    name: str, setting: Setting, make: Callable[[int, int], Sequence[bytes]], seconds: float, connections: int
) -> list[measure.Run]:
    """A closed-loop probe, half of the highest sustained rate, and that rate. ``make(count, number of the run)``."""
    port = setting.settings.port

    def go(title: str, number: int, rate: float, length: float) -> measure.Run:
        count = int(rate * length * 1.02) + connections if rate else int(6_000 * length)
        done = measure.run(
            f"{name} {title}", setting.data_dir, port, make(count, number), rate=rate, seconds=length, connections=connections
        )
        out = done.outcome
        console.print(
            f"  {done.name}: {out.rate:.0f}/s, {done.cost:.3f} CPU-s per 1,000, p50 {out.p50_ms} ms, p99 {out.p99_ms} ms, "
            f"max {out.max_ms} ms, errors {out.errors:.4%}, answers {out.statuses}"
        )
        return done

    runs = [go("closed loop", 0, 0, min(PROBE_SECONDS, 2 * seconds))]
    ceiling = runs[0].outcome.rate
    setting.noops.append(measure.bare_noop())
    console.print(f"  bare no-op: {setting.noops[-1]:.3f} CPU-s per 1,000")
    # Half first: the embedded broker answers the slower the longer its log is, and saturation fills it.
    half = max(seconds / 2, min(HALF_SECONDS, seconds))
    runs.append(go("half peak", 1, ceiling * STEPS[0] / 2, half))
    for number, share in enumerate(STEPS, start=2):
        attempt = go(f"at {share:.0%}", number, ceiling * share, seconds)
        runs.append(attempt)
        if attempt.outcome.errors < SUSTAINED_ERRORS and attempt.outcome.p99_ms < 1_000:
            attempt.name = f"{name} peak"
            if share != STEPS[0]:
                runs[1].name = f"{name} at {STEPS[0] / 2:.0%}"
                runs.append(go("half peak", len(STEPS) + 2, ceiling * share / 2, half))
            break
    return runs


def _report(name: str, setting: Setting, runs: Sequence[measure.Run], extra: dict[str, Any] | None = None) -> None:
    table = Table(title=f"{name}: CPU seconds per 1,000 requests")
    for column in ("run", "req/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "errors", "all", "× no-op", *SERVING, *APART):
        table.add_column(column, justify="left" if column == "run" else "right")
    for run in runs:
        out = run.outcome
        table.add_row(
            run.name, f"{out.rate:.0f}", f"{out.p50_ms}", f"{out.p90_ms}", f"{out.p99_ms}", f"{out.p999_ms}", f"{out.max_ms}", f"{out.errors:.3%}",
            f"{run.cost:.3f}", f"{run.cost / setting.noop:.1f}",
            *(f"{run.serving[component]:.3f}" for component in SERVING),
            *(f"{run.apart[component]:.3f}" for component in APART),
        )
    Console(width=230, highlight=False).print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name.replace(' ', '-')}.json"
    path.write_text(json.dumps(
        {"noop_cpu_s_per_1000": round(setting.noop, 4), "runs": [measure.as_json(run, setting.noop) for run in runs]}
        | (extra or {}), indent=1,
    ))
    console.print(f"written to {path}")


def _lag_to_zero(settings: Settings) -> float:
    """Seconds until everything appended so far, and what follows from it, is in rows; infinite past the limit."""
    began = time.monotonic()
    stopping = threading.Event()
    limit = threading.Timer(LAG_LIMIT_S, stopping.set)
    limit.start()
    try:
        return time.monotonic() - began if catch_up(settings, stopping) else float("inf")
    finally:
        limit.cancel()


@app.command()
def swipe(data_dir: DataDir = DEFAULT_DATA_DIR, seconds: Seconds = 60, connections: Connections = 128) -> None:
    """Swipes: half likes, distinct pairs, each durable before its answer; then how long the writers need to catch up."""
    setting = _prepare(data_dir)
    offset = int(time.time())
    runs = _scenario(
        "swipe", setting, lambda count, number: requests.swipes(setting.people, count, seed=offset + number), seconds,
        connections,
    )
    lag = _lag_to_zero(setting.settings)
    console.print(f"lag of the writers at zero {lag:.1f} s after the end")
    _report("swipe", setting, runs, {"lag_to_zero_s": round(lag, 1), "swipe_memory": _swipe_memory(data_dir)})


def _swipe_memory(data_dir: Path) -> dict[str, Any]:
    report = read_report(data_dir)
    return {
        actor.name: actor.figures.get("services", {}).get("swipes", {})
        for actor in (report.actors if report else []) if actor.name.startswith("swipes")
    }


@app.command()
def cards(data_dir: DataDir = DEFAULT_DATA_DIR, seconds: Seconds = 60, connections: Connections = 256) -> None:
    """Cards, warm (a deck is cached), cold (every request makes a deck) and first (by somebody who asks for the first time).

    Requests wait for each other's round trips and calls, some 45 ms in all, so with few connections the peak is that of
    the waits and not of the processors.
    """
    setting = _prepare(data_dir)
    people = setting.people
    runs = _scenario("cards warm", setting, lambda count, _: requests.cards(people, count, kind="warm"), seconds, connections)
    # Who asks for the first time has a scenario of their own.
    once = requests.cards(people, 1_000, kind="cold", begun=len(requests.AGES) - 1)
    measure.generate(setting.settings.port, once, rate=200, seconds=len(once) / 200, connections=64)
    runs += _scenario(
        "cards cold", setting, lambda count, number: requests.cards(people, count, kind="cold", begun=ROUNDS_A_RUN * number),
        seconds, connections,
    )
    runs += _scenario(
        "cards first", setting, lambda count, number: requests.cards(
            # With fewer people than requests some asked in a run before: not with these filters.
            _turned(people, 1_000 + number * 1_500), count, kind="first", begun=number,
        ),
        seconds, connections,
    )
    _report("cards", setting, runs)


def _turned(people: list[requests.Caller], start: int) -> list[requests.Caller]:
    """The same people, beginning with another one."""
    start %= len(people)
    return people[start:] + people[:start]


@app.command()
def mixed(data_dir: DataDir = DEFAULT_DATA_DIR, seconds: Seconds = 60, connections: Connections = 128) -> None:
    """Two swipes to one card request."""
    setting = _prepare(data_dir)
    offset = int(time.time())
    _report("mixed", setting, _scenario(
        "mixed", setting, lambda count, number: requests.mixed(setting.people, count, seed=offset + number), seconds,
        connections,
    ))


@app.command()
def messages(
    data_dir: DataDir = DEFAULT_DATA_DIR, seconds: Seconds = 60, connections: Connections = 128,
    conversations: Annotated[int, typer.Option(help="Conversations that are written in.", min=1, max=20_000)] = 1_000,
) -> None:
    """Messages sent through the API, each durable before its answer; nobody listens on a socket (see `delivery`)."""
    limits = running_settings(data_dir).limits
    if min(limits.messages_per_conversation_a_minute, limits.messages_per_user_a_minute) < MESSAGES_A_MINUTE:
        raise ConfigurationError(
            "this platform would refuse most of the bench's messages; start it with "
            f"SUGAR_LIMITS__MESSAGES_PER_CONVERSATION_A_MINUTE={MESSAGES_A_MINUTE} "
            f"SUGAR_LIMITS__MESSAGES_PER_USER_A_MINUTE={MESSAGES_A_MINUTE}"
        )
    setting = _prepare(data_dir)
    people = setting.people[: 2 * conversations]
    likes = requests.mutual_likes(people)
    for side in (likes[: len(likes) // 2], likes[len(likes) // 2 :]):
        measure.generate(setting.settings.port, side, rate=1_000, seconds=len(side) / 1_000, connections=64)
    console.print(f"{len(people) // 2} conversations")
    offset = int(time.time())
    runs = _scenario(
        "messages", setting, lambda count, number: requests.messages(people, count, seed=offset + number), seconds,
        connections,
    )
    lag = _lag_to_zero(setting.settings)
    console.print(f"lag of the writers at zero {lag:.1f} s after the end")
    _report("messages", setting, runs, {"lag_to_zero_s": round(lag, 1), "conversations": len(people) // 2})


@app.command()
def feed(
    data_dir: DataDir = DEFAULT_DATA_DIR, seconds: Seconds = 60, connections: Connections = 256,
    readers: Annotated[int, typer.Option(help="People who read their feeds.", min=10, max=20_000)] = 1_000,
) -> None:
    """Feeds: pages of 20 posts by 20 creators, of all kinds of access; the reader has subscriptions to half of the creators.

    Creators, posts, follows and subscriptions are appended to the log first. Every page is decided about anew.
    """
    setting = _prepare(data_dir)
    now = datetime.now(UTC)
    creators, people = setting.people[: feeds.CREATORS], setting.people[-readers:]
    made = feeds.append(setting.settings, feeds.creators_and_posts(creators, now), now)
    made += feeds.append(setting.settings, feeds.readers(people, creators, now), now)
    for person in (people[0], people[-1]):
        feeds.wait_for_feed(setting.settings.port, person, 20)
    console.print(f"{made} events appended and read; writers behind for {_lag_to_zero(setting.settings):.1f} s more")
    # Everybody's feed is filled once: a day has many requests for one filling.
    port = setting.settings.port
    measure.generate(port, feeds.requests_of(people, len(people)), rate=400, seconds=len(people) / 400, connections=64)
    runs = _scenario(
        "feed", setting, lambda count, number: feeds.requests_of(people, count), seconds, connections,
    )
    _report("feed", setting, runs, {"readers": len(people), "creators": len(creators)})


@app.command()
def publish(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    followers: Annotated[int, typer.Option(help="Followers, all of whom have a feed.", min=1, max=100_000)] = 100_000,
    seconds: Annotated[float, typer.Option(help="Length of each run of swipes.", min=2, max=600)] = 20,
    rate: Annotated[float, typer.Option(help="Swipes a second.", min=1, max=10_000)] = 200,
) -> None:
    """Publishing: how long until a post is in the feeds of all followers of its creator, and what that costs; then swipes at
    a steady rate, first alone and then while one post after another is published: what publishing does to other writes.
    """
    setting = _prepare(data_dir)
    # One whom no reader of `bench feed` follows: of more followers than `content.fanout_followers` feeds ask for posts.
    settings, creator, offset = setting.settings, setting.people[feeds.CREATORS].user_id, int(time.time())
    names = sorted(feeds.follow_in_rows(settings, creator, followers))

    def swipes(title: str, number: int, meanwhile: Callable[[], object] | None = None) -> publishing.Swiped:
        asked = requests.swipes(setting.people, int(rate * seconds * 1.02) + publishing.CONNECTIONS, seed=offset + number)
        done = publishing.swiped(settings, asked, rate=rate, seconds=seconds, meanwhile=meanwhile)
        out = done.outcome
        console.print(
            f"swipes {title}: {out.rate:.0f}/s, p50 {out.p50_ms} ms, p99 {out.p99_ms} ms, max {out.max_ms} ms, errors "
            f"{out.errors:.3%}; at most {done.behind} not in rows yet"
        )
        return done

    try:
        before = usage(data_dir)
        took, count = publishing.publish(settings, creator, names)
        spent = usage(data_dir).since(before)
        console.print(
            f"in {count} of {len(names)} feeds after {took:.2f} s; CPU-s: writers {spent['writer']:.2f}, "
            f"valkey {spent['valkey']:.2f}, postgres {spent['postgres']:.2f}"
        )
        alone = swipes("alone", 0)
        beside: list[float] = []
        publishing_too = swipes("while posts are published", 1, lambda: beside.append(publishing.publish(settings, creator, names)[0]))
        console.print(f"{len(beside)} posts published meanwhile, each in the last feed after {min(beside):.2f} to {max(beside):.2f} s")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "publish.json").write_text(json.dumps(
            {"followers": len(names), "arrived": count, "seconds": round(took, 3)}
            | {f"cpu_s_{name}": round(spent[name], 3) for name in ("writer", "valkey", "postgres")}
            | {"swipes_alone": alone.as_json(), "swipes_while_publishing": publishing_too.as_json()}
            | {"seconds_beside_swipes": [round(each, 3) for each in beside]}, indent=1,
        ))
    finally:
        feeds.forget_followers(settings, creator, names)


@app.command()
def login(data_dir: DataDir = DEFAULT_DATA_DIR, seconds: Seconds = 20, connections: Connections = 8) -> None:
    """Sign-in: the cost is the password hash, chosen to be high."""
    limits = running_settings(data_dir).limits
    if min(limits.logins_per_address_a_minute, limits.logins_per_account_a_minute) < LOGINS_A_MINUTE:
        raise ConfigurationError(
            "this platform would refuse most of the bench's sign-ins; start it with "
            f"SUGAR_LIMITS__LOGINS_PER_ADDRESS_A_MINUTE={LOGINS_A_MINUTE} "
            f"SUGAR_LIMITS__LOGINS_PER_ACCOUNT_A_MINUTE={LOGINS_A_MINUTE}"
        )
    setting = _prepare(data_dir)
    addresses = requests.register_people(setting.settings.port, 200)
    _report("login", setting, _scenario(
        "login", setting, lambda count, number: requests.logins(addresses, requests.PASSWORD, min(count, 20_000)), seconds,
        connections,
    ))


@app.command()
def memory(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Resident memory of the platform by component, shared pages counted once."""
    running_settings(data_dir)
    found = usage(data_dir).memory_mib
    table = Table("component", "MiB", title="Memory (PSS)")
    for name, value in sorted(found.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{value:.0f}")
    table.add_row("all", f"{sum(found.values()):.0f}")
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps({name: round(value, 1) for name, value in found.items()}, indent=1))
