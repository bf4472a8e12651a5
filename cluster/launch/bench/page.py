"""The report of `sugar bench all`: tables and plots in one HTML file that needs nothing else, and the figures as JSON.

A machine that others use as well takes two or three times the CPU seconds for the same work, and another number each minute.
So costs are told twice: as measured, and as a core takes them of which the bare no-op of the same run asks for ``RULER``.
Limits, growth and plans go by the second.
"""

from __future__ import annotations

import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from cluster.launch.bench.accounting import APART, SERVING
from cluster.launch.bench.capacity import (
    COLD_CARDS,
    DESIGN_CORES,
    REGISTERED,
    SWIPES_A_PERSON,
    Capacity,
    capacity,
    of_cards,
    population_for,
)
from cluster.launch.bench.shard import restored_swipes
from configs.contracts.errors import ConfigurationError

RULER: Final = 0.13
"""CPU seconds for 1,000 bare no-ops on the core that limits and plans speak of."""
LIMITS: Final[Mapping[str, float]] = {"swipe": 0.67, "cards warm": 0.67, "cards cold": 0.67, "feed": 0.8, "delivery": 0.8}
"""CPU seconds for 1,000 operations, writers and PostgreSQL apart."""
AIMS: Final[Mapping[str, float]] = {"swipe": 0.45, "cards warm": 0.45, "cards cold": 0.45, "feed": 0.45, "delivery": 0.6}
"""The same with writers and PostgreSQL."""
ONLINE: Final = (100_000, 1_000_000)
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: right } th:first-child, td:first-child { text-align: left }
.missed { color: #b00020; font-weight: 600 } svg { max-width: 100%; height: auto } .note { color: #555 }
"""


def noop_of(found: Iterable[Mapping[str, Any]]) -> float:
    """What a no-op costs on this machine, mostly: by the benches of these platforms that measured it."""
    measured = [
        result["noop_cpu_s_per_1000"] for platform in found for result in platform["benches"].values() if "noop_cpu_s_per_1000" in result
    ]
    return median(measured) if measured else RULER


def runs_of(found: Mapping[str, Any], usual_noop: float) -> dict[str, dict[str, Any]]:
    """Operation -> its run at the peak, by one platform's benches: rate, latencies, errors, and costs by component, ``measured``
    and by the ruler (``costs``; ``cost``: without writers and PostgreSQL). ``usual_noop``: for benches that measured none."""
    runs: dict[str, dict[str, Any]] = {}
    for bench, result in found["benches"].items():
        if bench == "sockets":
            continue
        noop = result.get("noop_cpu_s_per_1000", usual_noop)
        if bench == "delivery":
            run = result["closed loop"]
            runs["delivery"] = _costs(run["cpu_s_per_1000"], noop) | {
                "rate": run["rate"], "p50_ms": run["delivery_p50_ms"], "p99_ms": run["delivery_p99_ms"],
                "max_ms": run.get("delivery_max_ms"), "errors": 1 - run["delivered"] / max(run["sent"], 1),
                "half": result["half peak"]["delivery_p99_ms"],
            }
            continue
        named = {run["name"]: run for run in result["runs"]}
        for title, run in named.items():
            operation = title.removesuffix(" peak")
            if operation == title or title.endswith(" half peak"):
                continue
            half = named.get(f"{operation} half peak")
            out = run["outcome"]
            runs[operation] = _costs({**run["serving"], **run["apart"]}, noop) | {
                "rate": out["rate"], "p50_ms": out["p50_ms"], "p99_ms": out["p99_ms"], "max_ms": out["max_ms"],
                "errors": out["errors"], "half": None if half is None else half["outcome"]["p99_ms"],
            }
    return runs


def _costs(measured: Mapping[str, float], noop: float) -> dict[str, Any]:
    # What was measured before a component was counted apart lacks it.
    costs = {name: measured.get(name, 0.0) * RULER / noop for name in (*SERVING, *APART)}
    cost = sum(costs[name] for name in SERVING)
    return {
        "measured": dict(measured), "noop": noop, "costs": costs, "cost": cost, "times_noop": cost / RULER,
        "measured_cost": sum(measured.get(name, 0.0) for name in SERVING),
    }


def figures(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the page shows, as JSON. ``found``: one measured platform by name, that with the fewest people first.

    Raises ConfigurationError: a figure that the model needs was not measured.
    """
    usual_noop = noop_of(found.values())
    measured = {name: runs_of(platform, usual_noop) for name, platform in found.items()}
    populations = [name for name in found if not found[name]["plan"]]
    people = {name: found[name]["people"] for name in populations}
    base, largest = found[populations[0]], found[populations[-1]]
    costs_of = {str(online): population_for(online * REGISTERED, people) for online in ONLINE}
    try:
        costs = {name: _mix(measured[name]) for name in costs_of.values()}
        sockets = next(platform["benches"]["sockets"] for platform in found.values() if "sockets" in platform["benches"])
        memories = {
            "bytes_a_person": _slope(base, largest), "bytes_a_swipe": restored_swipes(1_000 * SWIPES_A_PERSON)[1], "bytes_a_socket": float(sockets["bytes_a_socket"]),
        }
    except (KeyError, StopIteration, ZeroDivisionError) as error:
        raise ConfigurationError("a bench did not measure what the model needs", missing=str(error)) from error
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "cores": base["cores"], "ruler": RULER, "operations": measured,
        "idle_cores": {name: platform["idle_cores"] for name, platform in found.items()},
        "memory_mib": {name: platform["memory_mib"] for name, platform in found.items()},
        "people": people, "plans": {name: found[name]["plan"] for name in found},
        "memory": memories, "sockets": sockets,
        "costs_of": costs_of,
        "capacity": {
            str(online): capacity(costs[costs_of[str(online)]], online, **memories, mib_a_process=base["memory_mib"]) for online in ONLINE
        },
    }


def _mix(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, float]]:
    """The model's operations, of one population. Raises KeyError: one was not measured."""
    return {
        "swipe": runs["swipe"]["costs"], "cards": of_cards(runs["cards warm"]["costs"], runs["cards cold"]["costs"]),
        "messages": runs["delivery"]["costs"], "feed": runs["feed"]["costs"], "login": runs["login"]["costs"],
    }


def _slope(base: Mapping[str, Any], largest: Mapping[str, Any]) -> float:
    """Bytes of all components for one person more, writers and servers' caches included."""
    more = largest["people"] - base["people"]
    return max(0.0, (sum(largest["memory_mib"].values()) - sum(base["memory_mib"].values())) * 2**20 / more) if more else 0.0


def write_page(found: Mapping[str, Mapping[str, Any]], output: Path) -> Path:
    """Writes index.html and all.json. Raises ConfigurationError: plots cannot be made here, or something is missing."""
    told = figures(found)
    (output / "all.json").write_text(json.dumps(told, indent=1, default=_as_json))
    page = output / "index.html"
    page.write_text(_page(told))
    return page


def _as_json(value: object) -> object:
    if isinstance(value, Capacity):
        return {name: getattr(value, name) for name in Capacity.__slots__ if name != "needs"} | {
            "needs": {need.component: {"cores": round(need.cores, 3), "processes": need.processes, "full": need.full} for need in value.needs}
        }
    raise TypeError(type(value).__name__)


def _page(told: Mapping[str, Any]) -> str:
    base = next(iter(told["people"]))
    parts = [
        f"<p class=note>Made {told['made']} on a machine with {told['cores']} cores, platform, generator and servers together. "
        "CPU seconds are those that the kernel counted; a machine that others use as well takes more of them for the same work. So limits, growth and "
        f"plans go by a core that spends {told['ruler']} CPU seconds on 1,000 requests of a bare no-op, which was measured with each bench. "
        "Latency is this machine's own, timed from the moment at which a request was to be sent.</p>",
        "<h2>Operations</h2>", _operations(told["operations"][base], base), _stacked(told["operations"][base]),
        "<h2>Growth</h2>", _growth(told), "<h2>Memory</h2>", _memory(told),
    ]
    parts += [_capacity(told["capacity"][str(online)], told["costs_of"][str(online)]) for online in ONLINE]
    parts.append(
        f"<p class=note>The model: the design's operations a second, {COLD_CARDS:.0%} of card requests make a deck, {REGISTERED} people are "
        f"registered for each online with {SWIPES_A_PERSON} swipes each, a process of one thread is given 0.6 of a core. Costs are "
        "by the ruler, the embedded broker in the place of Kafka; those of the nearest population with as many people or more, and where "
        "none was measured those of the largest: what grows further with people is not in them. Memory of a process is that with the fewest people. Not in it: what shards and Redis load "
        "when people come (a person's memory was measured just after a start), PostgreSQL's data on disk and the system's cache of it, "
        "Kafka's own, and the replicas of Redis and PostgreSQL.</p>"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Capacity</title><style>{STYLE}</style><h1>What operations cost, "
        "and what that makes of a plan</h1>" + "".join(parts)
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _judged(cost: float, most: float | None) -> str:
    return f"<span class=missed>{cost:.3f}</span>" if most is not None and cost > most else f"{cost:.3f}"


def _operations(runs: Mapping[str, Mapping[str, Any]], base: str) -> str:
    rows = []
    for name, run in runs.items():
        limit, aim, whole = LIMITS.get(name), AIMS.get(name), sum(run["costs"].values())
        rows.append([
            html.escape(name), _number(run["rate"], 0), _number(run["measured_cost"], 3), _number(run["noop"], 3), _number(run["times_noop"]),
            _judged(run["cost"], limit), _number(limit, 2), _judged(whole, aim), _number(aim, 2),
            _number(run["p50_ms"], 0), _number(run["p99_ms"], 0), _number(run["max_ms"], 0), f"{run['errors']:.3%}", _number(run["half"], 0),
        ])
    return f"<p>{html.escape(base)}, at the highest rate that was sustained.</p>" + _table(
        (
            "operation", "a second", "CPU-s per 1,000 here", "no-op here", "× no-op", "by the ruler", "limit", "all in", "aim",
            "p50 ms", "p99 ms", "max ms", "errors", "p99 ms at half",
        ), rows
    )


def _growth(told: Mapping[str, Any]) -> str:
    names = list(told["operations"])
    base = names[0]
    rows = []
    for operation in told["operations"][base]:
        cells = []
        for name in names:
            run = told["operations"][name].get(operation)
            first = told["operations"][base][operation]["cost"]
            cells.append("" if run is None else f"{run['cost']:.3f} ({run['cost'] / first:.2f} ×)")
        rows.append([html.escape(operation), *cells])
    rows.append(["cores when idle", *(f"{sum(told['idle_cores'][name].values()):.2f}" for name in names)])
    return "<p>CPU seconds for 1,000 operations by the ruler; × against the first column.</p>" + _table(("operation", *names), rows) + _lines(told)


def _memory(told: Mapping[str, Any]) -> str:
    names = list(told["memory_mib"])
    components = sorted({name for memory in told["memory_mib"].values() for name in memory})
    rows = [[component, *(_number(told["memory_mib"][name].get(component, 0.0), 0) for name in names)] for component in components]
    rows.append(["all", *(_number(sum(told["memory_mib"][name].values()), 0) for name in names)])
    memory = told["memory"]
    person = _number(memory["bytes_a_person"], 0) if len(told["people"]) > 1 else "not measured: one population; the plans below lack it"
    return "<p>MiB, shared pages counted once.</p>" + _table(("component", *names), rows) + _table(("one more", "bytes"), [
        ["person (all components, by the difference of populations)", person],
        [f"swipe in its shard, of {SWIPES_A_PERSON} a person", _number(memory["bytes_a_swipe"])], ["socket", _number(memory["bytes_a_socket"], 0)],
    ])


def _capacity(found: Capacity, costs_of: str) -> str:
    rows = [
        [need.component, _number(need.cores, 2), str(need.processes), "" if need.full is None else f"{need.full:.0%}"] for need in found.needs
    ]
    beside = f" (the design's plan: {DESIGN_CORES} for the API)" if found.online == ONLINE[0] else ""
    return (
        f"<h2>{found.online:,} people online</h2><p>{found.cores:.1f} cores{beside}, {found.memory_gib:.0f} GiB ({found.processes_gib:.0f} of them "
        f"processes without people), {found.nodes} nodes of 16 cores and 64 GiB at 60 %. {found.online * REGISTERED:,} people registered, costs as measured with "
        f"{html.escape(costs_of)}. Full first: <b>{html.escape(found.full_first)}</b>, with {found.full_at:,} online.</p>"
        + _table(("component", "cores", "processes", "of the most that can share"), rows)
    )


def _figure(width: float, height: float) -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigurationError("plots need matplotlib: install sugar[notebooks]") from error
    mpl.use("svg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained")


def _colours() -> Sequence[Any]:
    """As many as there are components, so that no two are alike."""
    import matplotlib as mpl

    twenty = mpl.colormaps["tab20"]
    return [twenty(number) for number in range(twenty.N)]


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    text = io.StringIO()
    figure.savefig(text, format="svg")
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg"):]


def _stacked(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What each operation costs, by component; sign-in is left out, since a password's hash is a hundred times dearer."""
    shown = [name for name in runs if name != "login"]
    figure, axes = _figure(10, 4.2)
    left = [0.0] * len(shown)
    axes.set_prop_cycle(color=_colours())
    for component in (*SERVING, *APART):
        widths = [runs[name]["costs"].get(component, 0.0) for name in shown]
        if max(widths, default=0.0) > 0.005:
            axes.barh(shown, widths, left=left, label=component, alpha=0.55 if component in APART else 1.0)
        left = [one + other for one, other in zip(left, widths, strict=True)]
    axes.set_xlabel("CPU seconds for 1,000 operations by the ruler (pale: after the answer)")
    axes.invert_yaxis()
    figure.legend(fontsize=8, loc="outside right upper")
    return _svg(figure)


def _lines(told: Mapping[str, Any]) -> str:
    populations = told["people"]
    if len(populations) < 2:
        return ""
    figure, axes = _figure(8, 3.6)
    for operation in told["operations"][next(iter(populations))]:
        points = [(count, told["operations"][name][operation]["cost"]) for name, count in populations.items() if operation in told["operations"][name]]
        if operation != "login" and len(points) > 1:
            axes.plot(*zip(*points, strict=True), marker="o", label=operation)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("people registered")
    axes.set_ylabel("CPU seconds for 1,000")
    figure.legend(fontsize=8, loc="outside right upper")
    return _svg(figure)
