"""``python -m recommender.simulation markets|served|days|cold-start|scale|experiments``: tables, and JSON beside them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recommender.simulation import reports
from recommender.simulation.days import Rules
from recommender.simulation.markets import MARKETS
from recommender.simulation.policies import BASELINES
from recommender.simulation.scale import scale

Report = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 when a gate that was measured is missed."""
    options = _parser().parse_args(arguments)
    console = Console(width=160 if not sys.stdout.isatty() else None)
    report: Report = options.run(options, console)
    for name, gate in report.get("gates", {}).items():
        mark = "passed" if gate["passed"] else "MISSED"
        console.print(f"{mark}: {name} {gate['value']:.3f} ({gate['kind']} {gate['bound']:g})")
    path = Path(options.json or f"bench-results/simulation-{options.command}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"command": options.command, **report}, indent=1))
    console.print(f"written to {path}")
    return 0 if all(gate["passed"] for gate in report.get("gates", {}).values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recommender.simulation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace, Console], Report], about: str,
                seeds: int, people: int) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=about, description=about,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        one.set_defaults(run=run)
        one.add_argument("--seeds", type=_positive, default=seeds, help="seeds 0 … seeds - 1")
        one.add_argument("--people", type=_positive, default=people, help="a side; scale: in all")
        one.add_argument("--json", help="where the figures go; bench-results/simulation-<command>.json when not given")
        return one

    markets = command("markets", _markets, "whole markets ranked by true or estimated preferences", 10, 3000)
    served = command("served", _served, "near candidates with prices one period old", 5, 2000)
    for one in (markets, served):
        one.add_argument("--market", nargs="+", choices=MARKETS, default=["standard"] if one is markets else list(MARKETS))
        one.add_argument("--noise", nargs="+", type=float, default=[0.0] if one is markets else [0.0, 0.5],
                         help="standard deviation of the estimates' log-odds")
    served.add_argument("--candidates", type=_positive, default=200)
    days = command("days", _days, "a simulated month; the full size is --seeds 20 --people 1000", 3, 400)
    days.add_argument("--fatigue", nargs="+", choices=reports.FATIGUES, default=list(reports.FATIGUES))
    days.add_argument("--policy", nargs="+", default=list(reports.DAYS))
    days.add_argument("--workers", type=_positive, default=1, help="processes")
    cold = command("cold-start", _cold, "first 100 cards of people without history", 5, 500)
    for one in (days, cold):
        one.add_argument("--market", choices=MARKETS, default="standard")
        one.add_argument("--noise", type=float, default=0.5, help="standard deviation of the estimates' log-odds")
    command("experiments", _experiments, "A/B tests by user, region and time beside the true effect", 5, 500)
    big = command("scale", _scale, "prices of many people with candidate lists", 1, 100_000)
    big.add_argument("--candidates", type=_positive, default=200)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _progress(console: Console, steps: int) -> tuple[Progress, Callable[[str], None]]:
    bar = Progress(TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task("", total=steps)
    return bar, lambda label: bar.update(task, advance=1, description=label)


def _markets(options: argparse.Namespace, console: Console) -> Report:
    bar, advance = _progress(console, options.seeds * len(options.market) * len(options.noise) * (len(BASELINES) + 1))
    with bar:
        report = reports.markets(range(options.seeds), options.people, options.market, options.noise, advance)
    for name in options.market:
        for noise in options.noise:
            rows = [row for row in report["rows"] if row["market"] == name and row["noise"] == noise]
            table = Table(title=f"{name} market, {options.people:,} × {options.people:,}, noise {noise:g}: expected matches (exposure Gini)")
            titles = list(rows[0]["policies"])
            for title in ("seed", *titles, "solve s"):
                table.add_column(title, justify="right")
            for row in rows:
                table.add_row(str(row["seed"]), *(
                    f"{row['policies'][title]['matches']:,.0f} ({row['policies'][title]['gini_right']:.3f})" for title in titles
                ), f"{row['total_s']:.2f}")
            console.print(table)
    return report


def _served(options: argparse.Namespace, console: Console) -> Report:
    bar, advance = _progress(console, options.seeds * len(options.market) * len(options.noise))
    with bar:
        report = reports.served_path(range(options.seeds), options.people, options.candidates, options.market,
                                     options.noise, advance)
    table = Table(title=f"served: {options.people:,} a side, {options.candidates} near candidates, prices a period old: expected matches (exposure Gini)")
    titles = list(report["rows"][0]["policies"])
    for title in ("market", "noise", *titles, "priced / product", "priced / de-meaned sum"):
        table.add_column(title, justify="right")
    for row in report["rows"]:
        table.add_row(row["market"], f"{row['noise']:g}", *(
            f"{row['policies'][title]['matches']:,.0f} ({row['policies'][title]['gini']:.2f})" for title in titles
        ), _ratio(row["to_product"]), _ratio(row["to_demeaned_sum"]))
    console.print(table)
    return report


def _days(options: argparse.Namespace, console: Console) -> Report:
    rules = Rules(people=options.people, noise=options.noise, market=MARKETS[options.market])
    bar, advance = _progress(console, options.seeds * len(options.fatigue) * len(options.policy))
    with bar:
        report = reports.days(range(options.seeds), rules, {name: reports.FATIGUES[name] for name in options.fatigue},
                              options.policy, advance, options.workers)
    table = Table(title=f"{rules.days} days, {options.people:,} a side, {rules.cards} unseen cards a day, {options.market} market, noise {options.noise:g}, {options.seeds} seeds")
    for title in ("fatigue", "policy", "matches", "Gini", "unmatched", "to product (95 %)", "least … largest seed"):
        table.add_column(title, justify="left" if title == "policy" else "right")
    for row in report["rows"]:
        ratio = row["to_product"]
        table.add_row(f"{row['fatigue']} × {row['factor']:g}", row["policy"], f"{row['matches']:,.0f}", f"{row['gini']:.3f}",
                      f"{row['unmatched']:.1%}", _ratio(ratio), f"{ratio['least']:.2f} … {ratio['largest']:.2f}")
    console.print(table)
    return report


def _cold(options: argparse.Namespace, console: Console) -> Report:
    rules = Rules(people=options.people, noise=options.noise, newcomers=0.1, market=MARKETS[options.market])
    bar, advance = _progress(console, options.seeds * len(reports.COLD))
    with bar:
        report = reports.cold_start(range(options.seeds), rules, advance=advance)
    table = Table(title=f"first 100 cards, 10 % newcomers, {options.people:,} a side, {options.market} market, {options.seeds} seeds: matches a person")
    for title in ("policy", "newcomers", "others", "to popularity (95 %)", "to random order (95 %)"):
        table.add_column(title, justify="left" if title == "policy" else "right")
    for row in report["rows"]:
        table.add_row(row["policy"], f"{row['newcomers']:.2f}", f"{row['others']:.2f}", _ratio(row["to_popularity"]),
                      _ratio(row["to_random"]))
    console.print(table)
    return report


def _experiments(options: argparse.Namespace, console: Console) -> Report:
    rules = Rules(people=options.people, days=14, cards=3)
    bar, advance = _progress(console, options.seeds * 3)
    with bar:
        report = reports.experiments(range(options.seeds), rules, advance)
    table = Table(title=f"gain over the product, {options.people:,} a side in 10 regions, {rules.days} days, {options.seeds} seeds: mean (deviation)")
    for title in ("treatment", "truth", "user", "region", "time"):
        table.add_column(title, justify="left" if title == "treatment" else "right")
    for row in report["rows"]:
        table.add_row(row["treatment"], *(
            f"{row[kind]['mean']:+.1%} ({row[kind]['deviation']:.1%})" for kind in ("truth", "user", "region", "time")
        ))
    console.print(table)
    return report


def _scale(options: argparse.Namespace, console: Console) -> Report:
    report = scale(options.people, options.candidates, options.seeds - 1)
    table = Table(title=f"{report['people']:,} people, {report['candidates']} candidates each: solved in {report['solve_s']:.1f} s, peak {report['peak_gib']:.2f} GiB")
    for title in ("ranking", "expected matches", "exposure Gini"):
        table.add_column(title, justify="left" if title == "ranking" else "right")
    for name, found in report["policies"].items():
        table.add_row(name, f"{found['matches']:,.0f}", f"{found['gini']:.3f}")
    console.print(table)
    console.print(f"market made in {report['market_s']:.1f} s, scored in {report['score_s']:.2f} s, {report['iterations']} iterations, error {report['error']:.4f}")
    if report["people"] >= 100_000:
        report["gates"] = {
            "seconds": {"value": report["solve_s"], "bound": 60.0, "kind": "at most", "passed": report["solve_s"] <= 60},
            "GiB": {"value": report["peak_gib"], "bound": 4.0, "kind": "at most", "passed": report["peak_gib"] <= 4},
        }
    return report


def _ratio(found: dict[str, float]) -> str:
    return f"{found['ratio']:.2f} ({found['low']:.2f} … {found['high']:.2f})"


if __name__ == "__main__":
    raise SystemExit(main())
